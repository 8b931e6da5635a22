"""Who says it: each source once."""

from __future__ import annotations

__all__ = ["SOURCES"]

SOURCES: dict[str, str] = {
    "question": "the question and answer on activations in LSTMs that this project grew from "
    "(a copy: e-learn.cn/tag/activation-function?page=3)",
    "here": "derived on paper for this project",
    "hochreiter1997": "Hochreiter & Schmidhuber 1997, Long short-term memory, Neural Computation "
    "9(8)",
    "gers2000": "Gers, Schmidhuber & Cummins 2000, Learning to forget, Neural Computation 12(10)",
    "lecun1998": "LeCun et al. 1998, Efficient BackProp (for feed-forward networks, "
    "tanh against the logistic sigmoid)",
    "glorot2010": "Glorot & Bengio 2010, AISTATS (feed-forward networks)",
    "pascanu2013": "Pascanu et al. 2013, arXiv:1211.5063",
    "le2015": "Le, Jaitly & Hinton 2015, arXiv:1504.00941",
    "greff2017": "Greff et al. 2017, LSTM: a search space odyssey, arXiv:1503.04069",
    "jozefowicz2015": "Jozefowicz, Zaremba & Sutskever 2015, ICML",
    "tallec2018": "Tallec & Ollivier 2018, Can recurrent neural networks warp time, "
    "arXiv:1804.11188",
    "eger2018": "Eger et al. 2018, EMNLP, aclanthology.org/D18-1472",
    "farzad2019": "Farzad et al. 2019, doi 10.1007/s00521-017-3210-6",
    "ligru": "Li-GRU, arXiv:1710.00641, and the note in its authors' pytorch-kaldi",
    "keras2194": "Keras issues 2194 and 13221: LSTMs with ReLU that became NaN",
    "hu2018": "Hu et al. 2018, Overcoming the vanishing gradient problem in plain recurrent "
    "networks",
    "cooijmans2017": "Cooijmans et al. 2017, arXiv:1603.09025",
    "cybertronai": "github.com/cybertronai/schmidhuber-problems, NumPy replications",
    "keras": "Keras: keras/src/layers/rnn/lstm.py (hard_sigmoid was the default of the gates "
    "until 2.3.0)",
    "beck2024": "Beck et al. 2024, xLSTM, arXiv:2405.04517",
}
"""Key -> the source as it is cited."""
