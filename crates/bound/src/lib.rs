//! `rote-bound`: proven bounds on what an intervention changes, each beside what was measured.
//!
//! # Setting
//! Row vectors, `y = x W + b`. Tokens `i`, blocks `l`, heads `h`; `d` width, `n` tokens, `V` vocabulary;
//! `|.|` Euclidean and spectral norm, `|.|_F` Frobenius. `x_i` (`[d]`) is the residual state of the model as it
//! is, `x~_i` with the intervention, `D_i = x~_i - x_i`. A norm is `N(x) = u(x) G + beta` with
//! `u(x) = x C / s(x)`, `s(x) = sqrt(|x C|^2/d + eps)`, `C` centring (LayerNorm) or nothing (RMSNorm). What
//! follows a norm is folded with it: `W~ = C G W`, `b~ = beta W + b`. `P` (`[n, n]`) attention weights, `q`,
//! `k` (after rotation), `v`, `o_i = sum_j P_ij v_j` of a head, `OV_h = W~_V W_O` (`[d, d]`), `A` and `M` the
//! outputs of attention and MLP, `a_0` and `c_2` what is left of them for `u = 0`.
//! A block is sequential (`y = x + A(x)`, `x' = y + M(y)`) or parallel (`x' = x + A(x) + M(x)`).
//!
//! Assumed: pre-norm blocks, positive epsilon, finite weights, no zero gain; the tokens are given
//! (teacher-forced). Covered: LayerNorm and RMSNorm, gelu (both), ReLU, silu, plain and gated MLPs, local
//! windows, grouped queries, rotary positions (partial and scaled), norms of queries and keys.
//!
//! # Theorems, and where they are written out
//! | rows | theorem | claim | file |
//! |---|---|---|---|
//! | `local.exact` | A0 `\|delta_i\|` of the first changed block's attention | equality | `local.rs` |
//! | `local.heads`, `.spread`, `.farthest`, `.row`, `.weights` | A1–A5, looser, from less | bound | `local.rs` |
//! | `local.subset` | H2, every subset of the changed heads at once | bound | `head_sets.rs` |
//! | `local.anypattern` | H3, every causal attention pattern at once | bound | `head_sets.rs` |
//! | `first.token` | B1 a bypass never changes token 0 | equality | below |
//! | `out.trajectory` | E, growth along the model's own trajectory (C, D, H1) | bound | `trajectory.rs` |
//! | `out.lookahead.m` | G, exact up to `m` blocks before the end, then E | bound | `trajectory.rs` |
//! | `out.additive` | F2, weights only | bound | `weights_only.rs` |
//! | `out.product` | F1, weights only; both columns are base-10 logarithms | bound | `weights_only.rs` |
//! | `norm.trajectory` | E through the final norm: `max \|gain\|` times L2 | bound | `norm_step.rs` |
//! | `logit.max` | I1 `max_v \|Dz_v\|` | bound | `decision.rs` |
//! | `margin.loss` | I2, by how much the greedy token's lead shrinks | bound | `decision.rs` |
//! | `logp.fall`, `logp.rise`, `kl`, `tv` | I3, of the true next token, of the distributions | bound | `decision.rs` |
//! | `estimate.linear` | first-order estimate of the final `\|D_i\|` | **estimate** | `estimate.rs` |
//!
//! Lemmas: L2 `norm_step.rs`, L3 `head_sum.rs`, L4 `activation.rs`, L5 `hybrid.rs`, L6 `point.rs`, L7
//! `softmax.rs`, L8 `mlp_constants.rs`; C `attention.rs`, D `mlp.rs`, K `decompose.rs`.
//!
//! L1: `|u(x)| < sqrt(d)`, as `|u|^2 = d |xC|^2 / (|xC|^2 + d eps)`; so `|u W~ + b~| <= sqrt(d)|W~| + |b~|`.
//!
//! B1: row 0 of every causal `P` is `e_0`, so the identity changes nothing there, in any block: `D_0 = 0`; and `D_i`
//! depends on tokens up to `i` only. B2: queries, keys, rotation, mask and scale do not enter a bypassed block's
//! output. B3: in a parallel block the MLP reads the unchanged input, so at its output `D_i = delta_i`;
//! `out.trajectory` is then an equality, up to its slack. B4: with every block bypassed the model is a function of
//! the current token alone, and of its position where positions are added to the embedding.
//!
//! L6: up to a term that does not depend on `j`, which softmax ignores, score `ij` moves by at most
//! `c |W~_Q R_i^T (k_j - kap_i)| r_i + c |W~_K R_j^T q_i| r_j + c |W~_Q||W~_K| r_i r_j`, `kap_i = sum_j P_ij k_j`.
//!
//! J1: F2 is non-increasing in the bypassed block's depth `l` for *every* model: `A5_(l+1) <= S(2 sqrt d) =
//! 2 B_A,l+1`, the diameter that stood in its place, so `F2(l) - F2(l+1) >= A5_l >= 0`. A bound that falls with depth
//! is no evidence about a model.
//!
//! R: the theorems speak of exact trajectories. For *computed* states `X^k` (as the model is) and `Y^k` (changed) let
//! `e_k(i) = |X^(k+1)_i - F_k(X^k)_i|` be the defect of block `k`, evaluated exactly on the stored states, and `e~_k(i)`
//! likewise. Then E holds for `|Y^k - X^k|` if every block's constants are those at the stored `X^k` and `e_k + e~_k`
//! is added to `rho` after block `k`: the triangle inequality at each block, which starts from the stored state.
//!
//! # The promise
//! Every row of a bound is compared with the difference of the model's own two runs in f64; one that is
//! exceeded fails the stage, with its row named. Norms are upper bounds in floating point (`spectral.rs`); each
//! step of a bound is enlarged by `1 + 1e-9`, far above the rounding of its non-negative sums (fewer than 10^6
//! operations of 2^-53 each); where terms cancel an absolute term is added (`local.rs`); per block
//! `1e-12 (|x| + |A| + |M|)` stands for the defects of theorem R of both runs (a stated margin, three orders above
//! those seen against long double, not a proof). The column `slack` says how much of `value` all this is, summed over
//! the steps that lead to it; what later steps make of it is not counted. `local.exact` and `first.token` are
//! equalities: the value is the exact one plus its slack, and the measured one must be within the slack of the exact
//! one.
//!
//! # Cost
//! Of every intervention one run in f64 from its first changed block on, read out at all positions, as much again in
//! f32 for the estimate, and the theorems: half of the time are products. In CPU time, every block of the demo's
//! models bypassed, 4 and 64 sequences of 64 tokens: 2.0 and 2.6 times the same sweep with generation, as the demo
//! runs it, 4.9 and 6.3 times a sweep that does not generate. SmolLM2, ten sequences of 64 tokens, 30 blocks: 204
//! seconds of one core, the norms of its weights 28 of them.
//!
//! # Tables
//! `bound` (one row per claim), `reach` (one row per intervention and position: measured, decomposed,
//! certified), `tightness` (bound over measured per theorem and intervention, with a verdict: *informative*
//! where at least half of the rows say something that does not hold anyway: hidden differences below
//! `sqrt(d) s(x)`, margins above zero, logits below their span, nats below `ln V`, `tv` below 1; local
//! displacements, of which nothing holds anyway, within ten times the measured). Without requests, `constant`
//! (the norms of the weights, `known.rs`). Blocks -1 and
//! -2 stand for the final norm and the logits. Positions are those of the state: position `i` predicts `i + 1`.
//!
//! # Sources
//! Proofs are ours. Ideas: Kim, Papamakarios, Mnih (2021), attention has no global Lipschitz constant; Castin,
//! Ablin, Peyré (2024), it has one on the bounded set that a norm makes; Birkhoff's contraction in Hilbert's
//! metric, for L7; Hoeffding's lemma; Badoiu and Clarkson, enclosing balls; Higham, and Rump (2006), Cholesky as
//! proof of definiteness. The intervention and the question: Menta, Agrawal, Agarwal (NAACL 2025).
//!
//! # A constant in attention's place
//! `attn.mean` puts a given row `c` in the place of every `A_i` (the mean of a block's attention outputs over other
//! texts; finite, and known before the run), `attn.zero` the row 0. Then `delta_i = c - A_i`, an equality; with
//! activations `|delta_i| <= |c - a_0| + sum_h |(o_i^h - b~_V^h) W_O^h|`, as `A_i - a_0` is that sum over heads;
//! from the weights alone `|delta_i| <= |c - a_0| + B_A`. As `A~_i = c` whatever goes in, `|c - A_i|` takes C's
//! place in E, whatever `rho`. B1 does not hold: token 0 moves too.
//!
//! Single heads likewise: their `o_i^h` become rows `c^h` (a mean of theirs, or 0), so they add `(c^h - o_i^h) W_O^h`
//! to `delta_i`; from the weights alone `|sum_h (c^h - b~_V^h) W_O^h|` and L3's sum with `sqrt d` for each of them.
//!
//! # Why post-norm models are refused
//! There `x' = N(x + A(x))`: the module reads `x`, a norm's output with gain and bias, not `u`. L1 and C, D carry
//! over with `W` in the place of the folded `W~` and `|x| <= sqrt(d) max|G| + |beta|`; but the first block reads the
//! embedding, which no norm bounds, the caps `B_A`, `B_M` and the constants of L3, L6, L8 are those of folded
//! matrices, and K is no sum, as norms stand between the parts. That is a second set of constants and of rows,
//! which is not there; without it a number would not be proven, so these models are refused by name.
//!
//! Deliberately absent: f32, post-norm models, free-running text.

mod activation;
mod attention;
mod check;
mod constants;
mod decision;
mod decompose;
mod estimate;
mod head_sets;
mod head_sum;
mod hybrid;
mod intervened;
mod known;
mod linear;
mod local;
mod mlp;
mod mlp_constants;
mod norm_step;
mod plan;
mod point;
mod readout;
mod request;
mod rotary;
mod rows;
#[cfg(test)]
mod sampled;
mod softmax;
mod spectral;
mod stage;
mod tightness;
mod trace;
mod trajectory;
mod unembedding;
mod weights_only;
mod wide;

pub use check::{Claim, Row, THEOREMS, claim};
pub use constants::Constants;
pub use known::Known;
pub use request::{Bounds, Depth, Rows};
pub use stage::Bound;
pub use tightness::{Summary, judge};
