//! Free-running greedy text, from the first wrong token on: everything before it is known from the
//! teacher-forced pass, and so are the keys and values.

use anyhow::Result;
use rote_model::{Likeliest, Means, Model, NoTap, Real, Row, State, Workspace};
use rote_plan::BlockChange;

/// One text being decoded.
pub(crate) struct Text<'a, T> {
    /// What was read, up to but without the last of `tokens`.
    pub(crate) state: State<T>,
    pub(crate) blocks: &'a [BlockChange],
    pub(crate) means: Option<&'a Means<T>>,
    /// Tokens generated so far; at least one.
    pub(crate) tokens: Vec<u32>,
    /// Tokens wanted.
    pub(crate) wanted: usize,
}

/// Decodes all texts together to their wanted lengths; rows leave the batch as they finish.
pub(crate) fn decode<T: Real>(
    model: &Model<T>,
    likeliest: &Likeliest<'_, T>,
    texts: &mut [Text<'_, T>],
    work: &mut Workspace<T>,
) -> Result<()> {
    loop {
        let mut open: Vec<_> = texts.iter_mut().filter(|text| text.tokens.len() < text.wanted).collect();
        if open.is_empty() {
            return Ok(());
        }
        let last: Vec<[u32; 1]> =
            open.iter().map(|text| [*text.tokens.last().expect("at least one token")]).collect();
        let inputs: Vec<_> =
            last.iter().zip(&open).map(|(token, text)| (&token[..], text.state.len())).collect();
        let mut x = model.embed(&inputs)?;
        let mut rows: Vec<_> =
            open.iter_mut().map(|text| Row::new(&mut text.state, 1, text.blocks, text.means)).collect();
        model.run(0..model.spec.n_blocks, &mut x, &mut rows, work, &mut NoTap)?;
        let next = likeliest.of(&model.final_norm(&x));
        open.iter_mut().zip(next).for_each(|(text, token)| text.tokens.push(token));
    }
}
