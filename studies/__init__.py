"""The studies: what is said about activations in LSTMs, tested; and the evidence for the answer.
They use anygate's lab from outside and are not in its wheel.

    python -m studies list                the claims, part by part
    python -m studies run --minutes 50    the confirming run goes on for so long
    python -m studies run --quick         a quarter of an hour on two cores; also `make answer`
    python -m studies status              how far the confirming run is
    python -m studies judge               the verdicts on the committed results
    python -m studies page                docs/answer.md, its evidence and pictures, README's lines

To check the evidence, read in this order: `setups` (tasks), `arms` and `experiments` (what is
trained), `effects` (from runs to numbers), `claims` (what is said), `judge` (the verdicts). These
are the rules; they are frozen by a commit (`rules`) that every stretch of the confirming run
records. `runner` and `store` make and keep the runs, `results.load` reads them, `exact` derives,
`costs` and `coverage` measure what needs no training, `literature` holds published figures, and
`history` what was run before. `grid` and `story` put them into words, `answer`, `evidence` and
`pictures` into pages (`page`).
"""
