"""Priors come back from JSON with the same draws and the same densities."""

import json
import math

import pytest
import torch
from sbi.utils import BoxUniform, MultipleIndependent
from sbi.utils.user_input_checks import process_prior
from torch import distributions as d
from torch.distributions import transforms as t

from sbi_aalr.persistence.prior_json import decode_prior, encode_prior, is_same_prior


def of(*values):
    return torch.tensor(values)


def transform(base, *transforms):
    return d.TransformedDistribution(base, list(transforms))


def process(prior):
    return process_prior(prior)[0]


UNIT = d.Uniform(torch.zeros(2), torch.ones(2))
NORMAL = d.Normal(of(0.1, math.pi), of(1.0, 1 / 3))
CORRELATED = d.MultivariateNormal(of(0.1, 0.2), of([2.0, 0.3], [0.3, 1.0]))
LOG_UNIFORM = transform(d.Uniform(of(-12.0), of(0.0)), t.ExpTransform())
CENTRES = of([-1.0, 0.2], [1.0, 0.4], [3.0, 0.1])

PRIORS = [
    BoxUniform(of(-1.0, 0.1), of(2.0, 1 / 3)),
    CORRELATED,
    d.MultivariateNormal(of(0.1, 0.2), scale_tril=of([2.0, 0.0], [0.3, 1 / 3])),
    d.MultivariateNormal(of(0.1, 0.2).double(), of([2.0, 0.3], [0.3, 1.0]).double()),
    d.LowRankMultivariateNormal(of(0.1, 0.2), of([0.3], [0.1]), of(0.5, 1 / 3)),
    d.Independent(NORMAL, 1),
    d.Independent(d.Normal(0.0, 1.0).expand((2,)), 1),
    d.Independent(d.Independent(d.Normal(of([0.1, 0.2]), of([1.0, 2.0])), 1), 1),
    MultipleIndependent([d.Gamma(of(2.0), of(1.0)), d.Uniform(of(0.0), of(0.3))]),
    MultipleIndependent([LOG_UNIFORM, d.Normal(of(0.0), of(1.0)), CORRELATED]),
    d.Dirichlet(of(1.0, 2.0, 3.0)),
    # What sbi makes of priors of one parameter, and of float64.
    process(d.Exponential(of(2.0))),
    process(LOG_UNIFORM),
    process(d.Independent(d.Normal(of(0.1, 0.2).double(), of(1.0, 2.0).double()), 1)),
    # Transformed: one parameter each, then all together.
    *(
        d.Independent(transform(*parts), 1)
        for parts in (
            (UNIT, t.ExpTransform()),
            (UNIT, t.AffineTransform(1.0, of(2.0, 0.3)), t.PowerTransform(of(2.0))),
            (UNIT, t.SigmoidTransform().inv, t.AffineTransform(of(1.0, 0.0), 2.0)),
            (NORMAL, t.SoftplusTransform()),
            (NORMAL, t.TanhTransform(cache_size=1)),
            (NORMAL, t.CumulativeDistributionTransform(d.Normal(0.0, 1.0))),
            (NORMAL, t.ComposeTransform([t.ExpTransform(), t.ExpTransform().inv])),
            (NORMAL, t.identity_transform),
            (d.LogNormal(of(0.1, 0.2), of(1.0, 2.0)), t.ExpTransform().inv),
        )
    ),
    transform(CORRELATED, t.SigmoidTransform(), t.AffineTransform(-1.0, 3.0)),
    transform(CORRELATED, t.IndependentTransform(t.ExpTransform(), 1)),
    transform(d.Independent(UNIT.expand((1, 2)), 2), t.ReshapeTransform((1, 2), (2,))),
    transform(NORMAL, t.CatTransform([t.ExpTransform(), t.TanhTransform()], -1)),
    d.MixtureSameFamily(
        d.Categorical(probs=of(0.3, 0.7, 0.1)),
        d.Independent(d.Normal(CENTRES, CENTRES.abs()), 1),
    ),
    d.MixtureSameFamily(
        d.Categorical(logits=of(0.3, 0.7, 0.1)),
        d.MultivariateNormal(CENTRES, torch.eye(2)),
    ),
    *(
        d.Independent(prior, 1)
        for prior in (
            d.Beta(of(1.0, 2.0), of(3.0, 0.1)),
            d.Cauchy(of(0.1, 0.2), of(1.0, 2.0)),
            d.Chi2(of(0.1, 2.0)),
            d.Exponential(of(0.1, 2.0)),
            d.Exponential(of(0.1, 2.0), validate_args=False),
            d.FisherSnedecor(of(1.1, 2.0), of(3.0, 2.5)),
            d.Gamma(of(0.1, 2.0), of(1.0, 3.0)),
            d.Gumbel(of(0.1, 2.0), of(1.0, 3.0)),
            d.HalfCauchy(of(0.1, 2.0)),
            d.HalfNormal(of(0.1, 2.0)),
            d.InverseGamma(of(0.1, 2.0), of(1.0, 3.0)),
            d.Kumaraswamy(of(0.1, 2.0), of(1.0, 3.0)),
            d.Laplace(of(0.1, 2.0), of(1.0, 3.0)),
            d.LogNormal(of(0.1, 2.0), of(1.0, 3.0)),
            d.Pareto(of(0.1, 2.0), of(1.0, 3.0)),
            d.StudentT(of(3.0, 4.0), of(0.1, 0.2), of(1.0, 2.0)),
            d.Uniform(of(0.1, 0.2).double(), of(1.0, 2.0).double()),
            d.VonMises(of(0.1, 2.0), of(1.0, 3.0)),
            d.Weibull(of(0.1, 2.0), of(1.0, 3.0)),
        )
    ),
]


def draw(prior):
    torch.manual_seed(0)
    return prior.sample((200,))


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
def test_prior_comes_back_the_same(prior):
    document = json.loads(json.dumps(encode_prior(prior), allow_nan=False))
    copy = decode_prior(document)
    assert type(copy) is type(prior)
    assert copy._validate_args == prior._validate_args
    assert repr(copy.batch_shape) == repr(prior.batch_shape)
    assert repr(copy.event_shape) == repr(prior.event_shape)
    # A copy, as transforms know again what they drew last.
    draws = draw(prior).clone()
    assert torch.equal(draw(copy), draws) and draw(copy).dtype == draws.dtype
    assert torch.equal(copy.log_prob(draws), prior.log_prob(draws))
    inside = prior.support.check(draws)
    assert torch.equal(copy.support.check(draws), inside)
    assert is_same_prior(document, prior)


def test_prior_that_refuses_values_outside_does_so_again():
    for validate in (True, False):
        prior = d.Independent(d.Uniform(of(0.0), of(1.0), validate_args=validate), 1)
        copy = decode_prior(encode_prior(prior))
        if validate:
            with pytest.raises(ValueError, match="within the support"):
                copy.log_prob(of(2.0))
        else:
            assert copy.log_prob(of(2.0)) == -math.inf


def test_decoding_draws_no_random_numbers():
    document = encode_prior(PRIORS[8])
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    decode_prior(document)
    assert torch.rand(1) == expected


def test_other_prior_is_told_from_the_one_described():
    document = encode_prior(BoxUniform(of(0.0), of(1.0)))
    assert is_same_prior(document, BoxUniform(of(0.0), of(1.0)))
    assert not is_same_prior(document, BoxUniform(of(0.0), of(1.5)))
    assert not is_same_prior(document, d.Independent(d.Poisson(of(1.0)), 1))


class Shifted(d.MultivariateNormal):
    pass


class Squared(t.ExpTransform):
    pass


def test_unknown_priors_are_not_written():
    for prior in (
        d.Poisson(of(1.0)),
        d.Independent(d.Poisson(of(1.0)), 1),
        d.Normal(of(1.0).half(), of(1.0).half()),
        d.Normal(of(math.inf), of(1.0), validate_args=False),
        Shifted(torch.ones(2), torch.eye(2)),
        MultipleIndependent([Shifted(torch.ones(2), torch.eye(2)), LOG_UNIFORM]),
        transform(NORMAL, Squared()),
        transform(NORMAL, t.AffineTransform(math.inf, 1.0)),
    ):
        assert encode_prior(prior) is None


def nest(name, **arguments):
    return {"type": name, "arguments": arguments}


def write(*values, dtype="float32"):
    return {"dtype": dtype, "values": list(values)}


WIDE = write(*[[0.0]] * 50_000)
LONG = write(*[1.0] * 50_000)
FLAG = {"validate_args": False}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (nest("Normal", loc=LONG, scale=WIDE, **FLAG), "have different shapes"),
        (nest("Normal", loc=write(0.0), scale=write(-1.0), **FLAG), "scale"),
        (nest("Normal", loc=write(0.0), scale=write(1.0)), "must have the arguments"),
        (
            nest("Normal", loc=write(0.0), scale=write(1.0), validate_args=1),
            "validate_args of Normal is 1",
        ),
        (nest("Normal", loc=write(0.0), scale=write("1"), **FLAG), "too many"),
        (nest("Normal", loc=write(0, dtype="int8"), scale=write(0), **FLAG), "int8"),
        (nest("Uniform", low=write(2.0), high=write(1.0), **FLAG), "ValueError"),
        (
            nest(
                "BoxUniform",
                low=write(2.0),
                high=write(1.0),
                reinterpreted_batch_ndims=1,
                **FLAG,
            ),
            "ValueError",
        ),
        (nest("ExpTransform", cache_size=0), "it is a ExpTransform"),
        (nest("ExpTransform", cache_size=True), "cache_size of ExpTransform is True"),
        (nest("Poisson", rate=write(1.0), **FLAG), "'Poisson' is unknown"),
        (nest("system", command="rm"), "describes nothing"),
        ({"type": "MultipleIndependent", "of": [3]}, "AssertionError"),
        ({}, "describes nothing"),
    ],
)
def test_what_nobody_wrote_is_refused(document, message):
    with pytest.raises(ValueError, match=f"prior is damaged: .*{message}"):
        decode_prior(document)


def test_what_has_many_parts_is_neither_written_nor_read():
    many = transform(NORMAL, *[t.ExpTransform()] * 3_000)
    assert encode_prior(many) is None
    power = nest("ExpTransform", cache_size=0)
    document = nest(
        "TransformedDistribution",
        base_distribution=encode_prior(NORMAL),
        transforms=[power] * 3_000,
        **FLAG,
    )
    with pytest.raises(ValueError, match="more than 2,000 parts"):
        decode_prior(document)


def test_what_would_be_large_is_refused():
    column = nest("Normal", loc=WIDE, scale=write(*[[1.0]] * 50_000), **FLAG)
    row = nest("AffineTransform", loc=LONG, scale=1.0, event_dim=0, cache_size=0)
    document = nest(
        "TransformedDistribution", base_distribution=column, transforms=[row], **FLAG
    )
    with pytest.raises(ValueError, match="has 2,500,000,000 numbers"):
        decode_prior(document)
