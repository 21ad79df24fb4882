import sys
from subprocess import run

import koopscope.plots
from koopscope.plots.style import PALETTE, LayerColours, curve_colours


def test_plots__import_loads_no_matplotlib():
    code = "import sys, koopscope.plots; sys.exit('matplotlib' in sys.modules)"
    assert (
        run([sys.executable, "-c", code], check=False, cwd=koopscope.plots.__path__[0] + "/../..").returncode
        == 0
    )


def test_plots__names_resolve():
    for name in koopscope.plots.__all__:
        assert callable(getattr(koopscope.plots, name))


def test_layer_colours__an_eighth_layer_keeps_its_name():
    labels = [handle.get_label() for handle in LayerColours.of("abcdefgh").handles()]
    assert labels == list("abcdefgh")
    assert [handle.get_label() for handle in LayerColours.of("abcdefghi").handles()][7:] == ["others (2)"]


def test_curve_colours__all_differ():
    assert curve_colours(3) == list(PALETTE[:3])
    assert len(set(curve_colours(20))) == 20
