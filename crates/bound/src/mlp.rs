//! Theorem D: an MLP on two inputs. How far its output moves when the normalised state steps by `r`.
//!
//! Neuron `k` reads a value that moves by at most `b_k = |w_k| r`; lemma L4 says what its activation does on
//! that interval, L5 turns neurons into a norm. Three ways for a plain MLP (ranges; slopes; half of the linear
//! map `W_1 W_2` exactly and the even rest by slopes), two for a gated one from
//! `act(a~) v~ - act(a) v = (act(a~) - act(a)) v + act(a~)(v~ - v)`, a third without biases from lemma L8:
//! `act(a) = a/2 + a tau(a)`, where `|tau| <= 1/2` and, for silu, `|tau'| <= 1/4`. Both outputs lie in a ball
//! of radius `B_M` around `c_2`, which caps all. `|M_i(x~) - M_i(x)|` is at most the least of, with `range_k`, `slope_k`
//! of L4 on `a_k ± b_k` and `hyb(v; W)` the bound of L5 on `|diag(v) W^T|`:
//!
//! plain `|W_2| |range|`; `|W_2| hyb(slope; W~_1) r`; `( |W~_1 W_2|/2 + |W_2| hyb(sup|act' - 1/2|; W~_1) ) r`;
//! gated `|W_2| |range_k |v_k| + (|act(a_k)| + range_k) |w'_k| r|`;
//! `|W_2| ( hyb(slope |v|; W~_1) + hyb(|act(a)| + range; W~_3) ) r`; without biases also
//! `kK2 Q/2 + |W_2| (kK Q/2 + tail)`, `Q = r min(2|u| + r, |u| + sqrt d)`, `tail = min( |(a v) th|, hyb(|a v|/4; W~_1) r )`,
//! `th_k = min(b_k/4, half of what tanh(a_k/2) can change)`; always `|M_i - c_2| + B_M`.

use rote_model::Activation;

use crate::activation::{Curve, steepness};
use crate::hybrid::hybrid;
use crate::linear::norm;
use crate::mlp_constants::{Form, MlpConstants};
use crate::point::MlpPoint;

/// `|M_i(x~) - M_i(x)|`, where `r` bounds the step of token `i` after the norm; `length = |u_i|`.
pub(crate) fn mlp_step(c: &MlpConstants, point: &MlpPoint, i: usize, r: f64, length: f64) -> f64 {
    if r == 0.0 {
        return 0.0;
    }
    // The longest step that a norm allows is asked for again and again, once a bound has outgrown the state.
    if r == length + (c.first.weight.cols as f64).sqrt() {
        return *point.farthest[i].get_or_init(|| any_step(c, point, i, r, length));
    }
    any_step(c, point, i, r, length)
}

fn any_step(c: &MlpConstants, point: &MlpPoint, i: usize, r: f64, length: f64) -> f64 {
    let (a, act) = (point.a.row(i), point.act.row(i));
    let cap = point.centred[i] + c.reach;
    let least = at_least(c, a, act, r);
    if let Form::Plain { through } = &c.form
        && cap <= least.ranges.min(least.slopes).min(through * r / 2.0 + least.tilts)
    {
        return cap;
    }
    let curve = Curve::of(c.act);
    let moves = Moves::new(&curve, a, act, &c.columns, r);
    let best = match (&c.form, &point.v) {
        (Form::Gated { up_columns, up_norm, bilinear, .. }, Some(v)) => {
            let gated = Gated { c, a, act, v: v.row(i), moves: &moves, up_columns, up_norm: *up_norm };
            let own = gated.products(r);
            match bilinear {
                Some(bilinear) if c.act == Activation::Silu => own.min(gated.bilinear(*bilinear, r, length)),
                _ => own,
            }
        }
        (Form::Plain { through }, _) => plain(c, &moves, *through, r, &least, cap),
        (Form::Gated { .. }, None) => f64::INFINITY,
    };
    best.min(cap)
}

/// What every neuron can do.
struct Moves {
    ranges: Vec<f64>,
    slopes: Vec<f64>,
    tilts: Vec<f64>,
}

impl Moves {
    fn new(curve: &Curve, a: &[f64], act: &[f64], columns: &[f64], r: f64) -> Moves {
        let zeros = || vec![0.0; a.len()];
        let mut moves = Moves { ranges: zeros(), slopes: zeros(), tilts: zeros() };
        let out = (&mut moves.ranges[..], &mut moves.slopes[..], &mut moves.tilts[..]);
        crate::wide::intervals(out, curve, a, act, columns, r);
        moves
    }
}

/// What no candidate of [`plain`] can be below.
struct AtLeast {
    ranges: f64,
    slopes: f64,
    /// Of the even rest alone.
    tilts: f64,
}

/// Cheap, and enough to see which candidates are not the least where a step is long. An interval that holds the
/// steepest point has the largest slope; such neurons alone give the hybrid bound
/// `slope * min(|W|, (sum |w_k|^2)^(1/2))`. And as `x - act(x) <= depth`, the range is at least
/// `a + b - depth - act(a)`.
fn at_least(c: &MlpConstants, a: &[f64], act: &[f64], r: f64) -> AtLeast {
    let Some(steep) = steepness(c.act) else { return AtLeast { ranges: 0.0, slopes: 0.0, tilts: 0.0 } };
    let (columns, ranges) = crate::wide::long_steps(a, act, &c.columns, r, steep.at, steep.depth);
    let spectral = c.down_norm * c.first_norm.min(columns.sqrt()) * r * (1.0 - 1e-12);
    AtLeast {
        ranges: c.down_norm * ranges.sqrt() * (1.0 - 1e-12),
        slopes: steep.slope * spectral,
        tilts: (steep.slope - 0.5) * spectral,
    }
}

/// The least of the three candidates; those that cannot be below `best` are not worked out.
fn plain(c: &MlpConstants, moves: &Moves, through: f64, r: f64, least: &AtLeast, best: f64) -> f64 {
    let hybrid = |v: &[f64]| c.down_norm * hybrid(v.iter().copied(), &c.columns, c.first_norm) * r;
    let mut best = best;
    if least.ranges < best {
        best = best.min(c.down_norm * norm(&moves.ranges));
    }
    if through * r / 2.0 + least.tilts < best {
        best = best.min(through * r / 2.0 + hybrid(&moves.tilts));
    }
    if least.slopes < best {
        best = best.min(hybrid(&moves.slopes));
    }
    best
}

/// One token's gated MLP.
struct Gated<'a> {
    c: &'a MlpConstants,
    a: &'a [f64],
    act: &'a [f64],
    v: &'a [f64],
    moves: &'a Moves,
    up_columns: &'a [f64],
    up_norm: f64,
}

impl Gated<'_> {
    fn products(&self, r: f64) -> f64 {
        let ranges = || self.moves.ranges.iter().zip(self.act);
        let each: Vec<f64> = ranges()
            .zip(self.v.iter().zip(self.up_columns))
            .map(|((range, act), (v, w))| range * v.abs() + (act.abs() + range) * w * r)
            .collect();
        let slopes = self.moves.slopes.iter().zip(self.v).map(|(slope, v)| slope * v.abs());
        let by_gate = hybrid(slopes, &self.c.columns, self.c.first_norm);
        let by_up = hybrid(ranges().map(|(range, act)| act.abs() + range), self.up_columns, self.up_norm);
        self.c.down_norm * norm(&each).min((by_gate + by_up) * r)
    }

    fn bilinear(&self, (inside, after): (f64, f64), r: f64, length: f64) -> f64 {
        let root = (self.c.first.weight.cols as f64).sqrt();
        // |u~ + u| |u~ - u|.
        let q = r * (2.0 * length + r).min(length + root);
        let products = || self.a.iter().zip(self.v).map(|(a, v)| (a * v).abs());
        let turned: Vec<f64> = products()
            .zip(self.a)
            .zip(&self.c.columns)
            .map(|((product, &a), &w)| {
                let b = w * r;
                let now = libm::tanh(a / 2.0);
                let change = (libm::tanh((a + b) / 2.0) - now).max(now - libm::tanh((a - b) / 2.0));
                // A difference of nearly equal values keeps few digits.
                product * (b / 4.0).min(change / 2.0 + 4.0 * f64::EPSILON)
            })
            .collect();
        let tail =
            norm(&turned).min(hybrid(products().map(|x| x / 4.0), &self.c.columns, self.c.first_norm) * r);
        after * q / 2.0 + self.c.down_norm * (inside * q / 2.0 + tail)
    }
}
