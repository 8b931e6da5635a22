"""What all tests share: one torch thread (pytest-xdist runs several processes) and Hypothesis
without a clock and without chance, so that a run today is the run of tomorrow."""

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile(
    "anygate",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("anygate")
