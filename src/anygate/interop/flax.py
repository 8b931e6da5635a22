"""Flax cells in and out, linen and nnx: trees of arrays. Needs neither Flax nor JAX.

    lstm = flax.from_params(variables["params"]["cell"], activation="relu")
    params = flax.to_params(lstm, "OptimizedLSTMCell")

| cell | arrays |
|---|---|
| LSTMCell, OptimizedLSTMCell (linen), LSTMCell (nnx) | ii, if, ig, io/kernel [I, H], hi ... /kernel [H, H] and /bias (nnx writes if_) |
| OptimizedLSTMCell (nnx) | dense_i/kernel [I, 4H], dense_h/kernel [H, 4H] and /bias |
| GRUCell (linen, nnx's names the same) | ir, iz, in/kernel and /bias, hr, hz, hn/kernel, hn/bias |
| GRUCell (nnx) | dense_i/kernel [I, 3H] and /bias, dense_h/kernel [H, 3H] |
| SimpleCell (linen, nnx) | i/kernel and /bias, h/kernel (nnx: dense_i, dense_h) |
"""
