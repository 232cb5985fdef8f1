import collections
import itertools

import inception_jax
from inception_jax.evaluation.protocols import NAMES
from inception_jax.reference.printed_results import RESULTS, Result, printed_result


def key(result: Result) -> tuple:
    return frozenset(result.networks.items()), result.protocol


def test_results_are_of_networks_and_protocols_that_exist():
    for result in RESULTS:
        assert result.networks.keys() <= set(inception_jax.list_models()), result
        assert result.protocol in NAMES, result
        assert result.networks, result
        assert all(count >= 1 for count in result.networks.values()), result
        assert result.source, result


def test_errors_are_percentages_and_the_top1_error_is_the_larger():
    for result in RESULTS:
        errors = [error for error in (result.top5, result.top1) if error is not None]
        assert errors == sorted(errors), result
        assert errors, result
        assert all(1 < error < 50 for error in errors), result


def test_nothing_is_printed_twice():
    assert [item for item, count in collections.Counter(map(key, RESULTS)).items() if count > 1] == []


def test_more_windows_and_more_networks_do_better():
    # That is what the papers print them to show; a number from the wrong row or column would not do so.
    order = ("single", "10crop", "12crop", "144crop")
    compared = 0
    for less, more in itertools.permutations([result for result in RESULTS if result.protocol in order], 2):
        windows = order.index(less.protocol) <= order.index(more.protocol)
        fewer = all(count <= more.networks[name] for name, count in less.networks.items() if name in more.networks)
        if less.networks.keys() == more.networks.keys() and windows and fewer:
            for worse, better in ((less.top1, more.top1), (less.top5, more.top5)):
                if None not in (worse, better):
                    assert better < worse, (less, more)
                    compared += 1
    assert compared > 20


# Going Deeper with Convolutions, Table 3; Very Deep Convolutional Networks, Tables 5 and 6; Inception-v4, Table 5 (in
# its AAAI version), whose ensemble is of one Inception-v4 and three Inception-ResNet-v2.
FOUND = (
    (["googlenet"], "single", None, 10.07),
    (["googlenet"], "144crop", None, 7.89),
    (["googlenet"] * 7, "single", None, 8.09),
    (["googlenet"] * 7, "144crop", None, 6.67),
    (["vgg_e"], "multicrop", 24.6, 7.4),
    (["vgg_d", "vgg_e"], "dense", 24.0, 7.1),
    (["vgg_e", "vgg_d"], "multicrop", 23.9, 7.2),
    (["inception_v4"] + ["inception_resnet_v2"] * 3, "144crop", 16.4, 3.1),
    (["inception_resnet_v2"] * 2 + ["inception_v4", "inception_resnet_v2"], "144crop", 16.4, 3.1),
)


def test_the_result_of_an_ensemble_is_found():
    for networks, protocol, top1, top5 in FOUND:
        result = printed_result(networks, protocol)
        assert (result.networks, result.protocol) == (collections.Counter(networks), protocol)
        assert (result.top1, result.top5) == (top1, top5), networks


NOT_PRINTED = (
    (["googlenet"] * 6, "144crop"),
    (["googlenet"] * 7, "12crop"),
    (["googlenet"] * 6 + ["bn_inception"], "144crop"),
    (["googlenet_tv"], "single"),
    (["vgg_d"] * 2, "dense"),
    (["vgg_d", "vgg_e"], "single"),
    (["inception_v4"] * 4, "144crop"),
    (["inception_v4", "inception_resnet_v2"], "144crop"),
    (["inception_v4"] * 3 + ["inception_resnet_v2"], "144crop"),
    ([], "single"),
)


def test_without_a_printed_result_none_is_found():
    for networks, protocol in NOT_PRINTED:
        assert printed_result(networks, protocol) is None, (networks, protocol)
