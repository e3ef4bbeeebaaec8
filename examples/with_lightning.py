"""The chaotic loss in Lightning, as a callback, and the same training as a plain loop.

Lightning is not in requirements.txt: give it an environment of its own, as README.md says.

python examples/with_lightning.py
"""

import logging
import tempfile
import warnings
from pathlib import Path

try:
    import lightning as L
except Exception as error:  # it is not there, or something that it imports is broken
    raise SystemExit(
        f"with_lightning.py: Lightning does not import ({error!r}). In an "
        "environment of its own: pip install torch==2.13.0 lightning scikit-learn; a torchvision "
        "there must be of the same build as torch, for CPU or CUDA, or be left out."
    ) from None

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from csbp_core import LIF, ChaoticLoss

EPOCHS = 6
BATCH = 25
ACCUMULATE = 2  # batches per optimizer step
TIME_STEPS = 6  # how often an image is shown
CHAOS = {"z": 1.5, "beta": 0.96}  # beta per optimizer step; of them there are 108

torch.set_num_threads(1)  # more do not help a network this small
warnings.filterwarnings("ignore", module="lightning")  # of worker processes, and of no validation
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

pixels, digits = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
halves = train_test_split(pixels.float() / 16, digits, test_size=0.5, random_state=0)
x_train, x_test, y_train, y_test = halves
# Not shuffled again in each epoch, so that all trainings here see the same batches.
batches = DataLoader(TensorDataset(x_train, y_train), BATCH)


class AnnealedChaos(L.Callback):
    """Attaches the chaotic loss, anneals it and saves it; `training_step` adds it."""

    def __init__(self, layers, **settings):
        self.layers = layers
        self.settings = settings
        self.chaos = None

    def setup(self, trainer, pl_module, stage):
        # Here and not in on_fit_start: a checkpoint is loaded in between, and wants the layers.
        # Nor is it removed when a fit ends: a checkpoint saved after that would know no layers.
        if self.chaos is None or self.chaos is not pl_module.chaos:  # not so in a second fit
            self.chaos = ChaoticLoss(**self.settings).attach(pl_module, self.layers)
            pl_module.chaos = self.chaos

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.chaos.step()  # once per optimizer step, after its backward passes

    def state_dict(self):
        return self.chaos.state_dict()

    def load_state_dict(self, state_dict):
        self.chaos.load_state_dict(state_dict)


class Digits(L.LightningModule):
    """A spiking network that learns digits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(64, 64), LIF(), nn.Linear(64, 64), LIF(), nn.Linear(64, 10)
        )
        self.chaos = None  # AnnealedChaos sets it
        self.losses = []  # of every batch

    def forward(self, x):
        sequence = x.expand(TIME_STEPS, *x.shape)  # [T, N, 64], the same image at every step
        return self.net(sequence).mean(0)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        loss = loss + self.chaos()  # once per backward; Lightning divides the sum by ACCUMULATE
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.005)


def train(epochs, checkpoint=None):
    """Train with Lightning, from the start or from a checkpoint on."""
    model = Digits()
    trainer = L.Trainer(
        max_epochs=epochs,
        accumulate_grad_batches=ACCUMULATE,
        callbacks=[AnnealedChaos(["net.0", "net.2"], **CHAOS)],
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, batches, ckpt_path=checkpoint)
    return model, trainer


def train_resumed():
    """Train half, save, and go on with a new model, a new trainer and a new callback."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "half.ckpt"
        first, trainer = train(EPOCHS // 2)
        trainer.save_checkpoint(checkpoint)
        model, _ = train(EPOCHS, checkpoint)
    model.losses = first.losses + model.losses
    return model


def train_plainly():
    """The same without Lightning."""
    model = Digits()
    optimizer = model.configure_optimizers()
    chaos = ChaoticLoss(**CHAOS).attach(model, ["net.0", "net.2"])
    for _ in range(EPOCHS):
        for number, (x, y) in enumerate(batches, start=1):
            loss = nn.functional.cross_entropy(model(x), y) + chaos()
            (loss / ACCUMULATE).backward()
            model.losses.append(loss.item())
            if number % ACCUMULATE == 0 or number == len(batches):
                optimizer.step()
                optimizer.zero_grad()
                chaos.step()
    model.chaos = chaos
    return model


def compare(title, model, known):
    """Print the largest differences of two trainings."""
    pairs = zip(model.parameters(), known.parameters(), strict=True)
    weights = max((a - b).abs().max().item() for a, b in pairs)
    losses = max(abs(a - b) for a, b in zip(model.losses, known.losses, strict=True))
    print(f"{title}: largest difference of weights {weights:.1e}, of losses {losses:.1e}")


plain = train_plainly()
model, _ = train(EPOCHS)
model.eval()
with torch.no_grad():
    accuracy = (model(x_test).argmax(1) == y_test).double().mean()
print(f"test accuracy {accuracy:.1%}, z = {model.chaos.z:.3f} after {model.chaos.steps} steps")
compare("Lightning and a plain loop", model, plain)
compare("resumed from a checkpoint and a plain loop", train_resumed(), plain)
