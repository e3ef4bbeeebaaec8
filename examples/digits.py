"""A spiking network learns scikit-learn's digits with the chaotic loss, in a few seconds.

python examples/digits.py
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from csbp_core import LIF, ChaoticLoss

EPOCHS = 15
BATCH = 50
TIME_STEPS = 6  # how often an image is shown
REPORTS = (1, 5, 10, 15)  # after these epochs

torch.set_num_threads(1)  # more do not help a network this small
torch.manual_seed(0)

# 1,797 images of 8 x 8 pixels from 0 to 16, and the digits they show; half to train, half to test.
pixels, digits = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
halves = train_test_split(pixels.float() / 16, digits, test_size=0.5, random_state=0)
x_train, x_test, y_train, y_test = halves

# Layers take all time steps at once, [T, N, features]; LIF starts from rest at every call.
model = nn.Sequential(nn.Linear(64, 64), LIF(), nn.Linear(64, 64), LIF(), nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

# The first line. h is what the layers "0" and "2" give, the currents that drive the neurons.
# z starts where the largest gradient share is about a twentieth, and falls to a hundredth of that.
updates = EPOCHS * len(y_train.split(BATCH))
chaos = ChaoticLoss(z=0.7, beta=0.01 ** (1 / updates)).attach(model, ["0", "2"])


def logits(x):
    """What the network says about images [N, 64], as logits [N, 10]."""
    sequence = x.expand(TIME_STEPS, *x.shape)  # [T, N, 64], the same image at every step
    return model(sequence).mean(0)


for epoch in range(1, EPOCHS + 1):
    for batch in torch.randperm(len(y_train)).split(BATCH):
        loss = nn.functional.cross_entropy(logits(x_train[batch]), y_train[batch])
        loss = loss + chaos()  # the second
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        chaos.step()  # the third: z <- beta z

    if epoch in REPORTS:
        with torch.no_grad():  # nothing is recorded here
            accuracy = (logits(x_test).argmax(1) == y_test).double().mean()
        print(f"epoch {epoch}: test accuracy {accuracy:.1%}, z = {chaos.z:.3f}")
        for name, layer in chaos.report().items():  # as measured at every 20th update
            pull = f"mean s {layer['mean_s']:.3f}, pulled to {layer['I0']}"
            print(f"  layer {name}: {pull}; gradient share {layer['gradient_share']:.1%}")
            if layer["warning"]:
                print(f"  {layer['warning']}")
