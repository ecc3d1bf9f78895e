"""The weight beta_t of the KL over training, counted in micro-batches."""

from espnet_blora.adapters.config import BloraConfig


def beta_at(config: BloraConfig, step: int) -> float:
    """Return beta_t at micro-batch `step` (the first one trained on is 1).

    constant: beta. linear: beta * min(1, step / warmup_steps). cyclic (Fu et al. 2019,
    arXiv 1903.10145): with p = (step - 1) mod cycle_steps + 1,
    beta * min(1, p / (cycle_ramp * cycle_steps)).
    """
    if config.schedule == "linear":
        return config.beta * min(1.0, step / config.warmup_steps)
    if config.schedule == "cyclic":
        place = (step - 1) % config.cycle_steps + 1 if step > 0 else 0
        return config.beta * min(1.0, place / (config.cycle_ramp * config.cycle_steps))
    return config.beta
