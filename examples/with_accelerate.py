"""The chaotic loss with accelerate and gradient accumulation, and the same as a plain loop.

accelerate is not in requirements.txt: give it an environment of its own, as README.md says.

python examples/with_accelerate.py
"""

import tempfile

try:
    from accelerate import Accelerator
except Exception as error:  # it is not there, or something that it imports is broken
    raise SystemExit(
        f"with_accelerate.py: accelerate does not import ({error!r}). In an "
        "environment of its own: pip install torch==2.13.0 accelerate scikit-learn"
    ) from None

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from csbp_core import LIF, ChaoticLoss

EPOCHS = 6
MICRO_BATCH = 25
ACCUMULATE = 2  # micro-batches per optimizer step
TIME_STEPS = 6  # how often an image is shown
CHAOS = {"z": 1.5, "beta": 0.96}  # beta per optimizer step; of them there are 108

torch.set_num_threads(1)  # more do not help a network this small

pixels, digits = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
halves = train_test_split(pixels.float() / 16, digits, test_size=0.5, random_state=0)
x_train, x_test, y_train, y_test = halves
# Not shuffled again in each epoch, so that all trainings here see the same batches.
batches = DataLoader(TensorDataset(x_train, y_train), MICRO_BATCH)


def new_training():
    """A network, its optimizer and the chaotic loss on its hidden layers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), LIF(), nn.Linear(64, 64), LIF(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    return model, optimizer, ChaoticLoss(**CHAOS).attach(model, ["0", "2"])


def logits(model, x):
    """What the network says about images [N, 64], as logits [N, 10]."""
    sequence = x.expand(TIME_STEPS, *x.shape)  # [T, N, 64], the same image at every step
    return model(sequence).mean(0)


def train(epochs, load=None, save=None):
    """Train with accelerate, from the start or from what another training saved in a folder."""
    accelerator = Accelerator(gradient_accumulation_steps=ACCUMULATE, cpu=True)
    model, optimizer, chaos = new_training()  # attached before the model is wrapped
    model, optimizer, loader = accelerator.prepare(model, optimizer, batches)
    accelerator.register_for_checkpointing(chaos)  # save_state and load_state include it
    if load is not None:
        accelerator.load_state(load)
    losses = []
    for _ in range(epochs):
        for x, y in loader:
            with accelerator.accumulate(model):
                loss = nn.functional.cross_entropy(logits(model, x), y)
                loss = loss + chaos()  # once per micro-batch: each has its backward
                accelerator.backward(loss)  # divides by ACCUMULATE, the chaotic loss too
                optimizer.step()  # accelerate skips it while gradients accumulate,
                optimizer.zero_grad()
                if accelerator.sync_gradients:  # which the chaotic loss has to be told
                    chaos.step()
            losses.append(loss.item())
    if save is not None:
        accelerator.save_state(save)
    return accelerator.unwrap_model(model), losses, chaos


def train_resumed():
    """Train half, save, and go on with a new model, optimizer and chaotic loss."""
    with tempfile.TemporaryDirectory() as folder:
        _, first_losses, _ = train(EPOCHS // 2, save=folder)
        model, losses, chaos = train(EPOCHS - EPOCHS // 2, load=folder)
    return model, first_losses + losses, chaos


def train_plainly():
    """The same without accelerate."""
    model, optimizer, chaos = new_training()
    losses = []
    for _ in range(EPOCHS):
        for number, (x, y) in enumerate(batches, start=1):
            loss = nn.functional.cross_entropy(logits(model, x), y) + chaos()
            (loss / ACCUMULATE).backward()
            losses.append(loss.item())
            if number % ACCUMULATE == 0 or number == len(batches):
                optimizer.step()
                optimizer.zero_grad()
                chaos.step()
    return model, losses, chaos


def compare(title, training, known):
    """Print the largest differences of two trainings."""
    pairs = zip(training[0].parameters(), known[0].parameters(), strict=True)
    weights = max((a - b).abs().max().item() for a, b in pairs)
    losses = max(abs(a - b) for a, b in zip(training[1], known[1], strict=True))
    print(f"{title}: largest difference of weights {weights:.1e}, of losses {losses:.1e}")


plain = train_plainly()
training = train(EPOCHS)
model, _, chaos = training
with torch.no_grad():
    accuracy = (logits(model, x_test).argmax(1) == y_test).double().mean()
print(f"test accuracy {accuracy:.1%}, z = {chaos.z:.3f} after {chaos.steps} steps")
compare("accelerate and a plain loop", training, plain)
compare("resumed from a checkpoint and a plain loop", train_resumed(), plain)
