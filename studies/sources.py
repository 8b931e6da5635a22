"""Sources as they are cited, each once. A new claim may cite one by its text alone."""

from __future__ import annotations

__all__ = ["ALSO_CITED", "SOURCES"]

QUESTION = (
    "the question and answer on activations in LSTMs that this project grew from "
    "(a copy: e-learn.cn/tag/activation-function?page=3)"
)
HERE = "derived on paper for this project"
HOCHREITER_1997 = "Hochreiter & Schmidhuber 1997, Long short-term memory, Neural Computation 9(8)"
GERS_2000 = "Gers, Schmidhuber & Cummins 2000, Learning to forget, Neural Computation 12(10)"
LECUN_1998 = (
    "LeCun et al. 1998, Efficient BackProp (for feed-forward networks, tanh against the logistic "
    "sigmoid)"
)
GLOROT_2010 = "Glorot & Bengio 2010, AISTATS (feed-forward networks)"
LE_2015 = "Le, Jaitly & Hinton 2015, arXiv:1504.00941"
GREFF_2017 = "Greff et al. 2017, LSTM: a search space odyssey, arXiv:1503.04069"
JOZEFOWICZ_2015 = "Jozefowicz, Zaremba & Sutskever 2015, ICML"
TALLEC_2018 = "Tallec & Ollivier 2018, Can recurrent neural networks warp time, arXiv:1804.11188"
LIGRU = "Li-GRU, arXiv:1710.00641, and the note in its authors' pytorch-kaldi"
KERAS_ISSUES = "Keras issues 2194 and 13221: LSTMs with ReLU that became NaN"
HU_2018 = "Hu et al. 2018, Overcoming the vanishing gradient problem in plain recurrent networks"
COOIJMANS_2017 = "Cooijmans et al. 2017, arXiv:1603.09025"
CYBERTRONAI = "github.com/cybertronai/schmidhuber-problems, NumPy replications"
KERAS = (
    "Keras: keras/src/layers/rnn/lstm.py (hard_sigmoid was the default of the gates until 2.3.0)"
)
BECK_2024 = "Beck et al. 2024, xLSTM, arXiv:2405.04517"

SOURCES = (
    QUESTION,
    HERE,
    HOCHREITER_1997,
    GERS_2000,
    LECUN_1998,
    GLOROT_2010,
    LE_2015,
    GREFF_2017,
    JOZEFOWICZ_2015,
    TALLEC_2018,
    LIGRU,
    KERAS_ISSUES,
    HU_2018,
    COOIJMANS_2017,
    CYBERTRONAI,
    KERAS,
    BECK_2024,
)
"""In the order of the page; those of claims only that are not here follow."""
ALSO_CITED = (
    HOCHREITER_1997,
    GERS_2000,
    GREFF_2017,
    HU_2018,
    TALLEC_2018,
    CYBERTRONAI,
    BECK_2024,
    LIGRU,
    KERAS_ISSUES,
)
"""In the tables and the answer, whichever claims are judged."""
