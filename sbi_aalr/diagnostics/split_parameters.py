"""One variable a parameter in a DataTree, for those who choose by `var_names`."""

import json

import xarray as xr

_THETA, _PARAMETER = "theta", "parameter"
_GROUPS = ("posterior", "warmup_posterior", "prior")
# Where a group says which of its variables are parameters, in their order.
_ORDER = "parameters"
_DIMENSIONS = ("chain", "draw", "observation", _PARAMETER)


def split_parameters(tree: xr.DataTree) -> xr.DataTree:
    """Put a variable for each parameter in the place of `theta`.

    Args:
        tree: What `to_datatree` returns.

    Returns:
        A tree whose variables are named like the parameters and have no dimension
        `parameter`; statistics and `diagnostics` are as they were.

    Raises:
        ValueError: If a name has a slash, or is that of a dimension.
    """
    groups = tree.to_dict()
    for name in _GROUPS:
        if name in tree.children and _THETA in tree[name].data_vars:
            groups[f"/{name}"] = _split(tree[name].to_dataset())
    return xr.DataTree.from_dict(groups)


def join_parameters(tree: xr.DataTree) -> xr.DataTree:
    """Undo `split_parameters`; a tree that is not split stays as it is."""
    split = [
        name for name in _GROUPS if name in tree.children and _ORDER in tree[name].attrs
    ]
    if not split:
        return tree
    joined = {f"/{name}": _join(tree[name].to_dataset()) for name in split}
    return xr.DataTree.from_dict({**tree.to_dict(), **joined})


def _split(group: xr.Dataset) -> xr.Dataset:
    theta = group[_THETA]
    names = [str(name) for name in theta[_PARAMETER].values]
    for name in names:
        if "/" in name or name in _DIMENSIONS:
            raise ValueError(
                "`parameter_names` must have no slash and differ from the dimensions "
                f"{', '.join(_DIMENSIONS)}, where each is a variable of its own, got "
                f"{name!r}. Give others by `parameter_names=`."
            )
    parts = {
        name: theta.isel({_PARAMETER: index}, drop=True)
        for index, name in enumerate(names)
    }
    others = group.drop_vars(_THETA).drop_dims(_PARAMETER, errors="ignore")
    return others.assign(parts).assign_attrs({_ORDER: json.dumps(names)})


def _join(group: xr.Dataset) -> xr.Dataset:
    names = json.loads(group.attrs[_ORDER])
    theta = xr.concat([group[name] for name in names], dim=_PARAMETER)
    theta = theta.transpose(..., _PARAMETER).assign_coords({_PARAMETER: names})
    attrs = {name: value for name, value in group.attrs.items() if name != _ORDER}
    joined = group.drop_vars(names).assign({_THETA: theta.rename(_THETA)})
    joined.attrs = attrs
    return joined
