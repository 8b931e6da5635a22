"""Every built-in activation: name, formula, parameters, source. The only list there is; tests,
docs, the command line and the report iterate over it.

At a kink the formula says which side owns the point: with where(x > 0, x, 0) the derivative at 0
is 0; clip's two ends belong to the inside; max's and min's belong to the constant. A branch
without x is never the last one, where NaN arrives, so that NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .activation import Activation

_ONNX = "ONNX LSTM operator"

# ---- the five of the question -------------------------------------------------------------

sigmoid = Activation(
    "sigmoid",
    "sigmoid(x)",
    source="1/(1+exp(-x)); Hochreiter & Schmidhuber 1997 for the gates",
    aliases=("logistic", "expit"),
)
tanh = Activation(
    "tanh",
    "tanh(x)",
    source="Gers et al. 2000 and every library since, for candidate and cell output",
)
hard_tanh = Activation(
    "hard_tanh",
    "clip(x, low, high)",
    low=-1.0,
    high=1.0,
    source="Collobert 2004; torch.nn.Hardtanh, jax.nn.hard_tanh",
    note="The derivative at the two ends is 1 here (0 in torch.nn.Hardtanh).",
    aliases=("hardtanh",),
)
relu = Activation(
    "relu",
    "max(x, 0)",
    source="Nair & Hinton 2010; derivative 0 at 0",
    aliases=("rectifier",),
)
leaky_relu = Activation(
    "leaky_relu",
    "where(x > 0, x, k*x)",
    k=0.01,
    source="Maas et al. 2013; derivative k at 0",
    note="k is 0.01 in torch, jax and ONNX, 0.2 in keras.activations (leaky_relu_keras), "
    "0.3 in the Keras layer LeakyReLU, 0.1 in Darknet: leaky_relu(k=0.3).",
    aliases=("leakyrelu", "lrelu"),
)

# ---- bounded, sigmoid-like: for gates -----------------------------------------------------

hard_sigmoid = Activation(
    "hard_sigmoid",
    "min(max(alpha*x + beta, 0), 1)",
    alpha=1 / 6,
    beta=0.5,
    source="torch.nn.Hardsigmoid, Keras 3, jax.nn.hard_sigmoid",
    note="Slope 1/6 as in torch, jax and Keras 3; Keras 2 and ONNX use 0.2: "
    "hard_sigmoid_onnx. The derivative at the two ends is 0.",
    aliases=("hardsigmoid",),
)
hard_sigmoid_onnx = Activation(
    "hard_sigmoid_onnx",
    "min(max(alpha*x + beta, 0), 1)",
    alpha=0.2,
    beta=0.5,
    source=f"{_ONNX}, HardSigmoid; Keras 2 and Theano",
    note="Slope 0.2; torch, jax and Keras 3 use 1/6: hard_sigmoid.",
    aliases=("hard_sigmoid_keras2",),
)
sparse_sigmoid = Activation(
    "sparse_sigmoid",
    "min(max((x + 1)/2, 0), 1)",
    source="jax.nn.sparse_sigmoid, Keras 3",
)
elliott = Activation(
    "elliott",
    "softsign(x)/2 + 1/2",
    source="Elliott 1993, range (0, 1); Farzad et al. 2019 for LSTM gates",
    note="The form with range (-1, 1) is softsign.",
)
modified_elliott = Activation(
    "modified_elliott",
    "isru(x) + 1/2",
    source="Farzad et al. 2019 (formula as commonly quoted), range (-1/2, 3/2)",
    note="As a forget gate it exceeds 1, so the cell state can grow without bound.",
)
cloglog = Activation(
    "cloglog",
    "-expm1(-exp(x))",
    source="complementary log-log; Gomes & Ludermir 2008",
)
arctan_gate = Activation(
    "arctan_gate",
    "atan(x)/pi + 1/2",
    source="Cauchy distribution function, range (0, 1)",
)

# ---- bounded, tanh-like: for candidate and cell output ------------------------------------

softsign = Activation(
    "softsign",
    "softsign(x)",
    source=f"x/(1+|x|); Bergstra et al. 2009; {_ONNX}",
    aliases=("soft_sign", "elliott_symmetric"),
)
scaled_tanh = Activation(
    "scaled_tanh",
    "alpha*tanh(beta*x)",
    alpha=1.0,
    beta=1.0,
    source=f"{_ONNX}, ScaledTanh",
    note="The operator states no defaults; onnxruntime takes 0 and 0, a constant 0. Here 1 and 1.",
)
lecun_tanh = Activation(
    "lecun_tanh",
    "1.7159*tanh(2*x/3)",
    source="LeCun et al. 1998, Efficient BackProp",
)
penalized_tanh = Activation(
    "penalized_tanh",
    "where(x > 0, tanh(x), a*tanh(x))",
    a=0.25,
    source="Xu et al. 2016; Eger et al. 2018 for LSTMs, arXiv:1901.02671",
)
lstm97_input = Activation(
    "lstm97_input",
    "2*tanh(x/2)",
    source="4*sigmoid(x) - 2, range (-2, 2): the cell input of Hochreiter & Schmidhuber 1997",
    note="Written with tanh, which is equal and does not cancel near 0.",
)
lstm97_output = Activation(
    "lstm97_output",
    "tanh(x/2)",
    source="2*sigmoid(x) - 1, range (-1, 1): the cell output of Hochreiter & Schmidhuber 1997",
    note="Written with tanh, which is equal and does not cancel near 0.",
)
cloglogm = Activation(
    "cloglogm",
    "1 - 2*exp(-0.7*exp(x))",
    source="modified complementary log-log; Gomes & Ludermir 2008; Farzad et al. 2019",
)
erf = Activation(
    "erf",
    "erf(x)",
    source="the error function; ONNX Erf",
)
arctan = Activation(
    "arctan",
    "atan(x)",
    source="range (-pi/2, pi/2)",
    aliases=("atan",),
)
isru = Activation(
    "isru",
    "isru(sqrt(alpha)*x)/sqrt(alpha)",
    alpha=1.0,
    source="x/sqrt(1 + alpha*x^2); Carlile et al. 2017, arXiv:1710.09967",
)
sine = Activation(
    "sine",
    "sin(x)",
    source="Parascandolo et al. 2016; Eger et al. 2018",
    aliases=("sin",),
)

# ---- rectifiers ---------------------------------------------------------------------------

relu6 = Activation(
    "relu6",
    "min(max(x, 0), 6)",
    source="Krizhevsky 2010; derivative 0 at 0 and at 6, as in jax and torch",
)
leaky_relu_keras = Activation(
    "leaky_relu_keras",
    "where(x > 0, x, k*x)",
    k=0.2,
    source="keras.activations.leaky_relu",
    note="leaky_relu with the slope 0.2 of keras.activations.",
)
prelu = Activation(
    "prelu",
    "where(x > 0, x, a*x)",
    a=0.25,
    source="He et al. 2015, arXiv:1502.01852; torch.nn.PReLU's initial slope",
    note="The formula of leaky_relu; a is meant to be trained.",
)
rrelu = Activation(
    "rrelu",
    "where(x > 0, x, a*x)",
    a=(1 / 8 + 1 / 3) / 2,
    source="Xu et al. 2015, arXiv:1505.00853",
    note="The deterministic form of torch.nn.RReLU in eval(): the slope is the mean of "
    "1/8 and 1/3. The random slope of training is not an elementwise formula.",
)
thresholded_relu = Activation(
    "thresholded_relu",
    "where(x <= alpha, 0, x)",
    alpha=1.0,
    source="Konda et al. 2015, arXiv:1402.3337; ONNX ThresholdedRelu",
    note="The ONNX LSTM text says x >= alpha, the operator x > alpha (used here). "
    "onnxruntime takes alpha = 0 in an LSTM when it is missing.",
)
threshold = Activation(
    "threshold",
    "where(x <= threshold, value, x)",
    threshold=0.0,
    value=0.0,
    source="torch.nn.Threshold (there without defaults), keras.activations.threshold",
)
elu = Activation(
    "elu",
    "where(x > 0, x, a*expm1(x))",
    a=1.0,
    source="Clevert et al. 2015, arXiv:1511.07289",
)
celu = Activation(
    "celu",
    "where(x > 0, x, a*expm1(x/a))",
    a=1.0,
    source="Barron 2017, arXiv:1704.07483",
)
selu = Activation(
    "selu",
    "where(x > 0, scale*x, scale*a*expm1(x))",
    a=1.6732632423543772,
    scale=1.0507009873554805,
    source="Klambauer et al. 2017, arXiv:1706.02515",
)
squared_relu = Activation(
    "squared_relu",
    "where(x <= 0, 0, x**2)",
    source="So et al. 2021, arXiv:2109.08668",
    aliases=("relu2",),
)
sparse_plus = Activation(
    "sparse_plus",
    "where(x <= -1, 0, where(x < 1, (x + 1)**2/4, x))",
    source="jax.nn.sparse_plus, Keras 3",
)
softplus = Activation(
    "softplus",
    "softplus(beta*x)/beta",
    beta=1.0,
    source=f"Dugas et al. 2000; torch.nn.Softplus; {_ONNX}",
    note="torch switches to x above beta*x = 20; here the exact value is kept.",
)
squareplus = Activation(
    "squareplus",
    "(x + hypot(x, sqrt(b)))/2",
    b=4.0,
    source="Barron 2021, arXiv:2112.11687; jax.nn.squareplus, Keras 3",
)

# ---- smooth and non-monotone --------------------------------------------------------------

silu = Activation(
    "silu",
    "x*sigmoid(beta*x)",
    beta=1.0,
    source="Hendrycks & Gimpel 2016; Ramachandran et al. 2017, arXiv:1710.05941",
    aliases=("swish",),
)
hard_silu = Activation(
    "hard_silu",
    "where(x <= -3, 0, where(x < 3, x*(x + 3)/6, x))",
    source="Howard et al. 2019, arXiv:1905.02244; torch.nn.Hardswish, ONNX HardSwish",
    aliases=("hard_swish", "hardswish", "hardsilu"),
)
mish = Activation(
    "mish",
    "x*tanh(softplus(x))",
    source="Misra 2019, arXiv:1908.08681",
)
gelu = Activation(
    "gelu",
    "x*normal_cdf(x)",
    source="Hendrycks & Gimpel 2016, arXiv:1606.08415, exact form",
    note="The exact form, as in torch and Keras; jax.nn.gelu uses gelu_tanh by default.",
    aliases=("gelu_erf",),
)
gelu_tanh = Activation(
    "gelu_tanh",
    "x*sigmoid(sqrt(8/pi)*(clip(x, -30, 30) + 0.044715*clip(x, -30, 30)**3))",
    source="Hendrycks & Gimpel 2016, tanh form; jax.nn.gelu's default",
    note="(1 + tanh(u))/2 is written sigmoid(2u), which does not cancel in the left tail. "
    "Beyond |x| = 30 the sigmoid is 0 or 1 in float64; the clip keeps x**3 finite.",
    aliases=("gelu_approximate", "gelu_jax"),
)
snake = Activation(
    "snake",
    "x + sin(a*x)**2/a",
    a=1.0,
    source="Ziyin et al. 2020, arXiv:2006.08195",
)

# ---- others that libraries offer ----------------------------------------------------------

identity = Activation(
    "identity",
    "x",
    source="no activation; the cell output of Hochreiter & Schmidhuber 1997, experiment 2",
    aliases=("linear", "none"),
)
affine = Activation(
    "affine",
    "alpha*x + beta",
    alpha=1.0,
    beta=0.0,
    source=f"{_ONNX}, Affine",
    note="The operator states no defaults; onnxruntime takes 0 and 0, a constant 0. Here 1 and 0.",
)
exponential = Activation(
    "exponential",
    "exp(x)",
    source="keras.activations.exponential; gates of Beck et al. 2024 (xLSTM), arXiv:2405.04517",
    aliases=("exp",),
)
log_sigmoid = Activation(
    "log_sigmoid",
    "-softplus(-x)",
    source="torch.nn.LogSigmoid, Keras 3, jax.nn.log_sigmoid",
    aliases=("logsigmoid",),
)
tanhshrink = Activation(
    "tanhshrink",
    "x - tanh(x)",
    source="torch.nn.Tanhshrink, keras.activations.tanh_shrink",
    aliases=("tanh_shrink",),
)
softshrink = Activation(
    "softshrink",
    "where(x < -lambd, x + lambd, where(x <= lambd, 0, x - lambd))",
    lambd=0.5,
    source="torch.nn.Softshrink, keras.activations.soft_shrink",
    aliases=("soft_shrink",),
)
hardshrink = Activation(
    "hardshrink",
    "where(x < -lambd, x, where(x <= lambd, 0, x))",
    lambd=0.5,
    source="torch.nn.Hardshrink, keras.activations.hard_shrink",
    aliases=("hard_shrink",),
)
sinh_asinh = Activation(
    "sinh_asinh",
    "sinh(x) + asinh(x)",
    source="Vijayaprabakaran & Sathiyamurthy 2022",
    note="Exponentially unbounded.",
)
symlog = Activation(
    "symlog",
    "where(x > 0, log1p(x), -log1p(-x))",
    source="sign(x)*log(1 + |x|); Webber 2013; Hafner et al. 2023, arXiv:2301.04104",
)

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {a.name: a for a in list(globals().values()) if isinstance(a, Activation)}
)
"""Every activation of this module by name, in the order above."""
