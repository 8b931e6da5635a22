"""The studies: sentences about activations in LSTMs, each tested by an experiment that can refute
it, and the answer that follows. They use anygate's lab from outside and are not in its wheel.

    python -m studies --quick       a quarter of an hour on two cores; also `make answer`
    python -m studies --full        a night
    python -m studies --publish     what `anygate show` quotes, from docs/claims.json

A claim is data (`model.Claim`), in one file of `studies/claims`.
"""
