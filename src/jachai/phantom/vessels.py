"""Points that fill a lung + a root at the hilum → a branching, tapering tree of vessels, and the bronchi along it.

Volume-filling branching after Tawhai et al., Ann. Biomed. Eng. 28:793, 2000: the points that a branch must supply are
halved across their longest extent and a child grows towards the middle of each half, down to one point a branch.
Radii follow Murray's law, with a measured power in place of the cube.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jachai.phantom.tubes import FloatArray, Tubes

IntArray = npt.NDArray[np.intp]

REACH = 0.42
"""Share of the way to the middle of its points that a branch grows before it divides."""
SIDEWAYS = 0.7
"""How much more a branch divides to its sides than into a near and a far part: vessels run outwards from the hilum."""
RADIUS_POWER = 3.1
"""A branch of radius r supplies r**3.1 points; Murray's law has 3, measured arteries 2.3 to 3.4 by generation."""
BEND = 0.07
"""Sideways step of the middle of a branch, as a share of its length: vessels are not straight."""
BRONCHUS_TO_ARTERY = 0.65
"""Inner radius of a bronchus to the radius of the artery beside it (Matsuoka et al., Am. J. Roentgenol. 180:513, 2003)."""
BRONCHUS_WALL = 0.2
"""Thickness of a bronchus's wall to its inner radius, at least `BRONCHUS_WALL_MM`."""
BRONCHUS_WALL_MM = 0.5
SMALLEST_BRONCHUS_MM = 1.2
"""Inner radius below which bronchi are left out: CT does not show them."""


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Branches of a tree, parents before children. start, end: (n, 3) mm; radius (n,) mm; parent (n,), -1 at the root."""

    start: FloatArray
    end: FloatArray
    radius: FloatArray
    parent: IntArray

    def tubes(self, rng: np.random.Generator) -> Tubes:
        """The branches as tubes, each of two pieces with a bend in the middle, tapering towards the children."""
        along = self.end - self.start
        length = np.sqrt((along**2).sum(axis=1, keepdims=True))
        middle = (self.start + self.end) / 2 + BEND * length * rng.standard_normal(along.shape) * 0.6
        thick = np.where(self.parent < 0, self.radius, np.minimum(self.radius[self.parent], 1.25 * self.radius))
        half = (thick + self.radius) / 2
        return Tubes.joined([Tubes(self.start, middle, thick, half), Tubes(middle, self.end, half, self.radius)])


def grow(points: FloatArray, root: FloatArray, heading: FloatArray, radius: float, rng: np.random.Generator) -> Tree:
    """A tree that ends in every one of (n, 3) points. root: where it starts, heading: (3,) its first branch, in mm."""
    group = np.zeros(len(points), dtype=np.intp)
    tip, parent = (root + heading)[None, :], np.array([0])
    starts, ends = [root[None, :]], [tip]
    counts, parents = [np.array([len(points)])], [np.array([-1])]
    born = 1
    while len(points):
        group, tip, parent = _halve(points, group, tip, parent, rng)
        count, centre = _centres(points, group, len(tip))
        share = np.where(count == 1, 1.0, REACH)[:, None]
        end = tip + share * (centre - tip)
        starts.append(tip)
        ends.append(end)
        counts.append(count)
        parents.append(parent)
        alive = count > 1
        points, group = points[alive[group]], (np.cumsum(alive) - 1)[group[alive[group]]]
        tip, parent = end[alive], (born + np.arange(len(end)))[alive]
        born += len(end)
    total = np.concatenate(counts)
    return Tree(
        np.concatenate(starts),
        np.concatenate(ends),
        radius * (total / total[0]) ** (1 / RADIUS_POWER),
        np.concatenate(parents).astype(np.intp),
    )


def _centres(points: FloatArray, group: IntArray, n: int) -> tuple[IntArray, FloatArray]:
    """Number of points (n,) and their middle (n, 3), for each group."""
    count = np.bincount(group, minlength=n)
    middle = np.stack([np.bincount(group, points[:, axis], n) for axis in range(3)], axis=1)
    return count, middle / np.maximum(count, 1)[:, None]


def _halve(
    points: FloatArray, group: IntArray, tip: FloatArray, parent: IntArray, rng: np.random.Generator
) -> tuple[IntArray, FloatArray, IntArray]:
    """Split each group of two or more points at a plane through its middle; → new group of each point, tips, parents."""
    n = len(tip)
    count, centre = _centres(points, group, n)
    heading = centre - tip
    heading /= np.sqrt((heading**2).sum(axis=1, keepdims=True)) + 1e-9
    offset = points - centre[group]
    offset -= SIDEWAYS * np.einsum("pa,pa->p", offset, heading[group])[:, None] * heading[group]
    spread = np.stack([np.bincount(group, offset[:, axis] ** 2, n) for axis in range(3)], axis=1)
    normal = np.eye(3)[spread.argmax(axis=1)] + 0.45 * rng.standard_normal((n, 3))
    side = np.einsum("pa,pa->p", offset, normal[group])
    order = np.lexsort((side, group))
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    rank = np.empty(len(points), dtype=np.intp)
    rank[order] = np.arange(len(points)) - first[group[order]]
    cut = np.clip(np.rint(count * rng.uniform(0.3, 0.7, n)), 1, np.maximum(count - 1, 1))
    new = 2 * group + (rank >= cut[group])
    used, new = np.unique(new, return_inverse=True)
    return new.ravel().astype(np.intp), tip[used // 2], parent[used // 2]


def bronchi(arteries: Tree, side: FloatArray) -> tuple[Tubes, Tubes]:
    """Walls (outer) and lumens (inner) of the bronchi that run beside the arteries, shifted towards (3,) `side`."""
    inner = BRONCHUS_TO_ARTERY * arteries.radius
    seen = inner >= SMALLEST_BRONCHUS_MM
    before = np.where(arteries.parent < 0, inner, inner[arteries.parent])
    shift = 2.2 * side / np.sqrt((side**2).sum())
    start = arteries.start + before[:, None] * shift
    end = arteries.end + inner[:, None] * shift
    lumen = Tubes(start, end, np.minimum(before, 1.2 * inner), inner).take(seen)
    wall = Tubes(
        lumen.start,
        lumen.end,
        lumen.r0 + np.maximum(BRONCHUS_WALL_MM, BRONCHUS_WALL * lumen.r0),
        lumen.r1 + np.maximum(BRONCHUS_WALL_MM, BRONCHUS_WALL * lumen.r1),
    )
    return wall, lumen
