//! What the model itself shows of one run in f64: the states that bounds stand on and differences are
//! measured from.

use anyhow::Result;
use rote_artifact::Misfit;
use rote_model::{Matrix, Model, Residual, Row, State, Tap, Workspace};
use rote_plan::{BlockChange, Hook};

/// Residual states and module outputs of one sequence in the model as it is, each `[n, d]`.
pub(crate) struct Trace {
    /// At each block's input.
    pub input: Vec<Matrix<f64>>,
    pub attn: Vec<Matrix<f64>>,
    /// Between attention and MLP; of sequential models only.
    pub middle: Vec<Matrix<f64>>,
    pub mlp: Vec<Matrix<f64>>,
    /// At the last block's output.
    pub last: Matrix<f64>,
}

impl Trace {
    /// Runs all blocks on `tokens`.
    pub(crate) fn of(model: &Model<f64>, tokens: &[u32]) -> Result<Trace> {
        let mut x = model.embed(&[(tokens, 0)])?;
        let change = vec![BlockChange::default(); model.spec.n_blocks];
        let mut state = State::new(&model.spec, tokens.len(), false);
        let mut rows = [Row::new(&mut state, tokens.len(), &change, None)];
        let mut seen = Seen::default();
        let mut work = Workspace::default();
        model.run(0..model.spec.n_blocks, &mut x, &mut rows, &mut work, &mut seen)?;
        let parallel = model.spec.residual == Residual::Parallel;
        assert_eq!(seen.middle.is_empty(), parallel, "sequential blocks show the state between modules");
        let Seen { input, attn, middle, mlp } = seen;
        Ok(Trace { input, attn, middle, mlp, last: Matrix::new(tokens.len(), model.spec.d_model, x) })
    }

    /// Refuses a run that left the numbers: no bound holds for it.
    ///
    /// # Errors
    /// [`Misfit`] with the first block, module and position that is no finite number.
    pub(crate) fn check(&self) -> Result<()> {
        for block in 0..self.input.len() {
            let modules =
                [("state", &self.input), ("attention output", &self.attn), ("mlp output", &self.mlp)];
            for (what, values) in modules {
                let values = &values[block];
                if let Some(at) = values.data.iter().position(|value| !value.is_finite()) {
                    return Err(Misfit(format!(
                        "block {block}: {what} at position {} is {}: no bound holds for it; the weights are too \
                         large for f64",
                        at / values.cols,
                        values.data[at]
                    ))
                    .into());
                }
            }
        }
        Ok(())
    }

    /// The state at the output of `block`.
    pub(crate) fn output(&self, block: usize) -> &Matrix<f64> {
        self.input.get(block + 1).unwrap_or(&self.last)
    }
}

#[derive(Default)]
struct Seen {
    input: Vec<Matrix<f64>>,
    attn: Vec<Matrix<f64>>,
    middle: Vec<Matrix<f64>>,
    mlp: Vec<Matrix<f64>>,
}

impl Tap<f64> for Seen {
    fn wants(&self, hook: Hook, _: Option<usize>) -> bool {
        matches!(hook, Hook::ResidPre | Hook::AttnOut | Hook::ResidMid | Hook::MlpOut)
    }

    fn see(&mut self, hook: Hook, _: Option<usize>, values: &[f64], width: usize) {
        let matrix = Matrix::new(values.len() / width, width, values.to_vec());
        match hook {
            Hook::ResidPre => self.input.push(matrix),
            Hook::AttnOut => self.attn.push(matrix),
            Hook::ResidMid => self.middle.push(matrix),
            Hook::MlpOut => self.mlp.push(matrix),
            _ => {}
        }
    }
}

/// `|a_i - b_i|` for every row.
pub(crate) fn differences(a: &Matrix<f64>, b: &Matrix<f64>) -> Vec<f64> {
    (0..a.rows).map(|row| crate::linear::distance(a.row(row), b.row(row))).collect()
}
