"""The largest Lyapunov exponent of any training, from two trajectories (Benettin et al. 1976, doi:10.1103/PhysRevA.14.2338)."""

import copy

import numpy as np
import torch
from tqdm import tqdm

from .checks import check, check_all


def largest_lyapunov(step, state, steps: int, d0=1e-6, *, rows=False, seed=0, displace: int | None = None) -> np.ndarray:
    """Log growth per step of the distance to a twin that starts every step at d0 (Benettin); the mean is the largest exponent.

    Args:
        step, state: (state, n) -> state, and a list of tensors, all that training carries; or (model, n) -> loss, and (model,
            optimizer), which are copied: a ChaoticLoss attaches inside the loss. All see the same n and global torch RNG.
        d0: distance over the norm of what is displaced (absolute if that is 0), or an array; spikes flip if large: use float64.
        rows: the first dimension of every tensor counts independent systems, each with its own distance.
        displace: only so many float tensors start displaced (Adam's moments must stay positive); of a model its parameters.

    Returns `[steps, *d0.shape]`, `[..., rows]` with NaN once a row overflows, else a ValueError. Distance 0 counts as 2e-308.
    """
    check_all(["d0"], steps=steps, d0=d0, seed=seed)
    model = isinstance(state[0], torch.nn.Module)

    def moving(system):
        if model:
            moments = [t for slots in system[1].state.values() for t in slots.values() if torch.is_tensor(t)]
            system = [*(p for group in system[1].param_groups for p in group["params"]), *system[0].buffers(), *moments]
        return [t.detach() for t in system if t.is_floating_point() and t.dim() >= rows]

    def flat(tensors):  # [rows, numbers]
        return torch.cat([t.double().reshape(len(t) if rows else 1, -1) for t in tensors], 1)

    start = flat(moving(state)[: sum(len(group["params"]) for group in state[1].param_groups) if model else displace])
    check("state", start, "(-inf, inf)")
    gauss = torch.randn(start.shape[1], generator=torch.Generator().manual_seed(int(seed)), dtype=torch.double).to(start)
    d = torch.outer(start.new_tensor(d0).flatten(), (norm := start.norm(dim=1)).where(norm > 0, 1.0))
    systems = [copy.deepcopy(state) if model else [t.detach().clone() for t in state] for _ in range(1 + len(d))]
    growth, apart = np.empty((steps, *d.shape)), start.new_zeros(*d.shape, flat(moving(state)).shape[1])
    for n in tqdm(range(steps), desc="exponent", disable=None, leave=False):
        apart[apart.norm(dim=2) == 0, : len(gauss)] = gauss.roll(n)  # at first, and where a twin met the reference
        apart, here = apart * (d / apart.norm(dim=2))[..., None], moving(systems[0])
        for twin, by in zip(systems[1:], apart, strict=True):
            for t, mine, part in zip(here, moving(twin), by.split([t.numel() // len(by) for t in here], 1), strict=True):
                mine.copy_(t + part.reshape(t.shape))
        for i in reversed(range(len(systems))):  # the reference last: it leaves the global RNG as training does
            with torch.random.fork_rng(enabled=i > 0):
                if not model:
                    systems[i] = [t.detach().clone() for t in step(systems[i], n)]
                    continue
                systems[i][1].zero_grad()
                step(systems[i][0], n).backward()
                systems[i][1].step()
        apart = torch.stack([flat(moving(twin)) for twin in systems[1:]]) - flat(moving(systems[0]))
        growth[n] = ((distance := apart.norm(dim=2)).clamp_min(np.finfo(float).tiny) / d).log().cpu()
        check(f"distance after step {n}", 0 if rows else distance[:, 0], "[0, inf)")
    return growth.reshape(steps, *np.shape(d0), *growth.shape[2:][:rows])
