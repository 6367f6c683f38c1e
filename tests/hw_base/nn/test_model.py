import torch
from torch import nn

from hw_base.nn.model import BaseModel


class Tiny(BaseModel):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.b = nn.Linear(4, 2, bias=False)
        self.register_buffer("c", torch.zeros(1000))

    def forward(self, x, **batch):
        return {"y": self.b(self.a(x))}


class Pair(Tiny):
    parameter_group_names = ("first", "second")

    def parameter_groups(self):
        return {"first": self.a, "second": self.b}


def test_parameters_that_training_can_change_are_counted():
    model = Tiny()
    assert model.n_parameters() == 3 * 4 + 4 + 4 * 2
    model.a.requires_grad_(False)
    assert model.n_parameters() == 8
    model.b.weight.data = torch.zeros(1234, 2)
    assert "2,468 trainable parameters" in repr(model)


def test_groups_are_the_model_itself_unless_it_says_otherwise():
    model = Tiny()
    assert model.parameter_groups() == {"model": model}
    assert Tiny.parameter_group_names == ("model",)
    assert tuple(Pair().parameter_groups()) == Pair.parameter_group_names


def test_a_model_is_called_with_a_whole_batch():
    assert Tiny()(x=torch.zeros(5, 3), tokens=torch.zeros(1), text=["a"])["y"].shape == (5, 2)
