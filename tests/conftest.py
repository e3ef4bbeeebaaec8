import pytest
import torch
from hypothesis import settings

settings.register_profile("csbp", deadline=None, derandomize=True)  # workers share cores; a failure must repeat
settings.load_profile("csbp")


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
