"""What ``convert`` replaces computes what it did, with the same parameters, trained by a rule."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from gaitprop.errors import ArgumentError
from gaitprop.nn import InvertibleLinear, convert
from gaitprop.rules.feedback import FeedbackRule, Site
from tests.gaitprop.nn.models import gradients


class Two(nn.Module):
    """A sequence in a module, whose forward also has a layer that no sequence holds."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(6, 8),
            nn.LeakyReLU(0.2),
            nn.Linear(8, 8),
            nn.LeakyReLU(0.2),
            nn.Linear(8, 8, bias=False),
            nn.LeakyReLU(0.3, inplace=True),
            nn.Linear(8, 8),
            nn.ReLU(),
        )
        self.head = nn.Linear(8, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.body(inputs))


ALONE = "no nn.LeakyReLU follows it in an nn.Sequential with torch's own forward"


def test_the_model_stays_the_same_but_for_the_rule() -> None:
    torch.manual_seed(0)
    model, inputs = Two().double().eval(), torch.randn(5, 6, dtype=torch.float64)
    expected, names = model(inputs), list(model.state_dict())
    parameters = list(map(id, model.parameters()))
    before = gradients(model, model(inputs).square().sum())
    done = convert(model, "bp")
    assert done.replaced == ("body.2", "body.4")
    assert done.left_alone == {
        "body.0": "it is not square: 6 to 8 units",
        "body.6": ALONE,
        "head": ALONE,
    }
    assert [type(each) for each in model.body[2:6]] == 2 * [InvertibleLinear, nn.Identity]
    assert [model.body[place].negative_slope for place in (2, 4)] == [0.2, 0.3]
    assert not model.body[2].training
    assert list(model.state_dict()) == names
    assert list(map(id, model.parameters())) == parameters
    torch.testing.assert_close(model(inputs), expected)
    after = gradients(model, model(inputs).square().sum())
    for ours, theirs in zip(after, before, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert convert(model, "gait").replaced == ()


def test_rule_and_gamma_are_passed_on() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU())
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.bfloat16)  # of what would be new, which nothing is
    try:
        convert(model, "itp", 0.25)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)
    assert (model[0].rule, model[0].gamma, model[0].negative_slope) == ("itp", 0.25, 0.01)
    assert not model[0].weight.is_meta
    model(torch.ones(2, 3)).sum().backward()


def hooked(kind: str) -> nn.Linear:
    layer = nn.Linear(3, 3)
    getattr(layer, f"register_{kind}_hook")(lambda *_: None)
    return layer


def frozen(name: str) -> nn.Linear:
    """By a buffer in the place of a parameter."""
    layer = nn.Linear(3, 3)
    value = getattr(layer, name).detach()
    delattr(layer, name)
    layer.register_buffer(name, value)
    return layer


def masked() -> nn.Linear:
    layer = nn.Linear(3, 3)
    layer.register_buffer("mask", torch.ones(3))
    return layer


@pytest.mark.parametrize(
    ("layer", "after", "reason"),
    [
        (frozen("bias"), nn.LeakyReLU(), "it holds other tensors or modules than the parameters"),
        (frozen("weight"), nn.LeakyReLU(), "it holds other tensors or modules than the parame"),
        (masked(), nn.LeakyReLU(), "it holds other tensors or modules than the parameters"),
        (nn.Conv2d(1, 9, 3), nn.LeakyReLU(), "it is a Conv2d, not an nn.Linear"),
        (weight_norm(nn.Linear(3, 3)), nn.LeakyReLU(), "ParametrizedLinear, not an nn.Linear"),
        (nn.Linear(3, 3).half(), nn.LeakyReLU(), "torch.float16, neither float32 nor float64"),
        (nn.Linear(3, 3), nn.LeakyReLU(-0.1), r"has the slope -0.1, not a number in \(0, 1\]"),
        (nn.Linear(3, 3), nn.LeakyReLU("0.1"), r"has the slope '0.1', not a number in \(0, 1\]"),
        (nn.Linear(3, 3), nn.LeakyReLU(torch.tensor(0.1)), r"the slope tensor\(0.1000\), not a"),
        *(
            (hooked(kind), nn.LeakyReLU(), "it or the leaky ReLU after it has hooks")
            for kind in (
                *("forward", "forward_pre", "full_backward", "full_backward_pre"),
                *("state_dict_post", "load_state_dict_post"),
            )
        ),
    ],
)
def test_what_is_left_alone(layer: nn.Module, after: nn.Module, reason: str) -> None:
    model = nn.Sequential(layer, after)
    done = convert(model)
    assert done.replaced == ()
    assert model[0] is layer and model[1] is after
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(done.left_alone["0"])


def test_what_learns_beside_the_weights_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(), nn.Linear(3, 3), nn.LeakyReLU())
    before = {id(each) for each in model.parameters()}
    done = convert(model, "kolen_pollack")
    new = [name for name, each in model.named_parameters() if id(each) not in before]
    assert list(done.added) == new and len(new) == 2
    assert convert(nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU())).added == ()


def test_a_layer_in_two_places_is_replaced_where_it_can_be() -> None:
    shared, bend = nn.Linear(3, 3), nn.LeakyReLU(0.1)
    model = nn.Sequential(shared, bend, shared, nn.Tanh(), shared, bend)
    inputs = torch.randn(4, 3)
    expected = model(inputs)
    done = convert(model, "bp")
    torch.testing.assert_close(model(inputs), expected)
    assert len(list(model.parameters())) == 2
    assert done.replaced == ("0", "4")
    assert done.left_alone == {"2": ALONE}


def test_a_layer_in_two_places_stays_one() -> None:
    """And so does what its rule keeps; two where its slopes differ."""
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.LeakyReLU(0.1), shared, nn.LeakyReLU(0.1))
    assert convert(model, "kolen_pollack").added == ("0.feedback_backward",)
    assert model[0] is model[2]
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.LeakyReLU(0.1), shared, nn.LeakyReLU(0.2))
    convert(model)
    assert model[0] is not model[2] and model[0].weight is model[2].weight


@pytest.mark.parametrize("place", [0, 1, None])
def test_what_wraps_a_forward_goes_on(place: int | None) -> None:
    """As libraries do that replace it in one object."""
    model = nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU(0.1))
    wrapped = model if place is None else model[place]
    wrapped.forward = torch.relu
    inputs = torch.randn(4, 3)
    expected = model(inputs)
    assert convert(model).replaced == ()
    assert torch.equal(model(inputs), expected)


def test_a_rule_that_fails_at_a_later_layer_leaves_all_as_they_were() -> None:
    def draws(site: Site, _: torch.Generator) -> dict[str, Tensor]:
        return {"matrix": site.weight / (len(site.weight) - 4)}

    rule = FeedbackRule("odd", lambda _layer, error, _scale: error, draws)
    model = nn.Sequential(
        nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU()),
        nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU()),
    )
    before = list(model.modules())
    with pytest.raises(ArgumentError, match="drew inf or NaN as matrix"):
        convert(model, rule)
    assert all(now is then for now, then in zip(model.modules(), before, strict=True))


def test_a_layer_that_also_stands_elsewhere_is_named_where_it_was_replaced() -> None:
    model = nn.Module()
    model.first = nn.Linear(3, 3)
    model.rest = nn.Sequential(
        OrderedDict(low=model.first, bend=nn.LeakyReLU(), top=nn.Linear(3, 2))
    )
    done = convert(model)
    assert done.replaced == ("rest.low",)
    assert done.left_alone.keys() == {"first", "rest.top"}


def test_what_is_invertible_already_is_named() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LeakyReLU())
    convert(model)
    assert convert(model, "bp") == (
        (),
        {"0": "it is invertible already, with the rule gait: set its `rule`"},
        (),
    )
    assert model[0].rule == "gait"


def test_a_sequence_with_a_forward_of_its_own_is_left_alone() -> None:
    class Residual(nn.Sequential):
        def forward(self, inputs: Tensor) -> Tensor:
            for module in self:
                inputs = inputs + module(inputs)
            return inputs

    class Named(nn.Sequential):
        """Computes what nn.Sequential computes."""

    both = (nn.Linear(3, 3), nn.LeakyReLU(0.1))
    model = nn.Sequential(Residual(*both), Named(nn.Linear(3, 3), nn.LeakyReLU(0.1)))
    inputs = torch.randn(4, 3)
    expected = model(inputs)
    done = convert(model, "bp")
    torch.testing.assert_close(model(inputs), expected)
    assert done.replaced == ("1.0",)
    assert done.left_alone == {"0.0": ALONE}
