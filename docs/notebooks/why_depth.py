# %% [markdown]
# # Why do residual networks train?
#
# A walk through the claims on networks that come with this project. It runs in minutes on one core, and needs no data set.
# The full measurements, with intervals, are in `docs/explanation/depth.md`.

# %%
from dataclasses import replace
from importlib.resources import files
from itertools import combinations

import torch
from resnet_models.analysis.gradients import gradient_correlation, gradient_profile
from resnet_models.analysis.initialisation import arrivals, branch_profile
from resnet_models.analysis.lesions import error_of
from resnet_models.analysis.material import material
from resnet_models.analysis.paths import mean_length, path_gradient, path_sums
from resnet_models.analysis.responses import layer_responses
from resnet_models.analysis.walk import bypass, plain_step, settled, without_normalisation
from resnet_models.checkpoint import load_checkpoint
from resnet_models.network import ResNet, build
from resnet_models.variants import find_variant

folder = files("resnet_models") / "pretrained"
trained = {name: load_checkpoint(folder / f"{name}.safetensors").network for name in ("resnet20", "plain20", "resnet56")}
some = material(40, seed=1)

# %% [markdown]
# ## H(x) = F(x) + x
# A plain block learns $H(x)$. A residual block learns $F(x) = H(x) - x$ and adds $x$. Where the best $H$ is near the identity,
# $F$ is near zero. He et al. (arXiv 1512.03385, Fig. 7) look at how strongly layers respond: less in residual networks, the less
# the deeper.

# %%
for name, network in trained.items():
    print(f"{name}: mean standard deviation of a layer's response {layer_responses(network, some.images).mean:.3f}")

# %% [markdown]
# ## The gradient through a block
# $\partial L / \partial x = \partial L / \partial y \, (1 + \partial F / \partial x)$. Without the 1, n blocks multiply n factors.
# The usual story says that the product *vanishes* in plain networks. With batch normalisation it does not: it *grows* towards the input.

# %%
for name in ("plain20", "resnet20"):
    torch.manual_seed(1)
    profile = gradient_profile(build(name), some.images, some.labels, batch_statistics=True)
    print(f"{name}, fresh: the gradient at block 1 is {profile.growth:.1f} times that at the last block")

# %% [markdown]
# What plain networks lose is not size but meaning: gradients at neighbouring inputs do not correlate (Balduzzi et al., arXiv 1702.08591).

# %%
for name in ("plain20", "resnet20"):
    torch.manual_seed(1)
    line = gradient_correlation(settled(build(name), some.images), some.images[:4], steps=12, seed=1)
    print(f"{name}, fresh: correlation with the gradient one step away {line[1]:.2f}")

# %% [markdown]
# The 1 is exact where nothing follows the addition (pre-activation, arXiv 1603.05027, eq. 5). In the networks of 2015 a ReLU follows and
# masks it. What comes from the end of the last stage by shortcuts alone, as a part of what it was there, block by block:

# %%
for name in ("resnetv2_20", "resnet20", "resnetv2_56", "resnet56"):
    torch.manual_seed(1)
    passed = arrivals(settled(build(name), some.images), some.images, some.labels)
    print(f"{name}, untrained: {passed[0]:.2f} of the gradient passes {len(passed)} shortcuts")

# %% [markdown]
# ## What batch normalisation does
# It gives every branch the same variance, while that of the skip path grows with each block. So block l changes its input by one part in
# about l, and a deep network begins near the identity (De and Smith, arXiv 2002.10444). Without it, branches grow with the skip path.

# %%
for name in ("resnet20", "resnet56"):
    torch.manual_seed(1)
    network = build(name)
    kept, bare = branch_profile(network, some.images), branch_profile(without_normalisation(network), some.images)
    print(f"{name}, untrained: the branches have {kept.mean_share:.2f} of the variance, without normalisation {bare.mean_share:.2f};")
    print(f"  the skip path grows {kept.skips[-1] / kept.skips[0]:.0f}-fold, without {bare.skips[-1] / bare.skips[0]:.0e}-fold")

# %% [markdown]
# ## 2^n paths
# Multiplying out $\prod (1 + \partial F_i / \partial x)$ gives $2^n$ terms, one for each set of branches (Veit et al., arXiv 1605.06431).
# Carried backward split by number of branches, the gradient is the same as adding up all paths one by one:

# %%
torch.manual_seed(0)
small = settled(ResNet(replace(find_variant("resnet20"), stages=(2, 1, 1))), some.images).double()
images, labels = some.images[:2].double(), some.labels[:2]
blocks = len(small.blocks())
sums = [sum(path_gradient(small, images, labels, set(c)) for c in combinations(range(blocks), k)) for k in range(blocks + 1)]
whole = torch.stack(sums).sum(0)
one_by_one = [float(((part * whole).flatten(1).sum(1) / (whole * whole).flatten(1).sum(1)).mean()) for part in sums]
carried = path_sums(small, images, labels).shares
print("one by one:", [round(share, 6) for share in one_by_one])
print("carried:   ", [round(share, 6) for share in carried])

# %%
shares = path_sums(trained["resnet56"], some.images[:2], some.labels[:2]).shares
print(f"resnet56: paths have 13.5 branches on average; weighted by gradient {mean_length(shares):.1f}")

# %% [markdown]
# ## Lesions
# If many short paths carry the network, it survives the loss of a block. A chain does not.


# %%
def without(gone):
    """A network's step that leaves out block `gone`."""
    return lambda index, block, x: bypass(block, x) if index == gone else plain_step(index, block, x)


for name in ("resnet56", "plain20"):
    whole_error = error_of(trained[name], some.images, some.labels, plain_step)
    print(
        f"{name}: error {whole_error:.0f} %, without its fifth block {error_of(trained[name], some.images, some.labels, without(4)):.0f} %"
    )

# %% [markdown]
# ## And what does not hold
# "Deeper residual networks are never worse": the paper's own network of 1202 layers has 7.93 % test error, that of 110 layers 6.43 %.
# Here, resnet44 and resnet56 cannot be told apart on 9,980 images (McNemar's test, `docs/explanation/depth.md`).
