//! From a model's name on a command line to a model, and to the record of which it was.

use std::path::Path;

use anyhow::{Context, Result};
use rote_artifact::Misfit;
use rote_artifact::tables::Request;
use rote_model::{Identity, Loaded, Real, load};
use rote_store::{Digest, Subject, digest_file};

/// Loads the model `name`, with the record of which model it is.
pub fn load_subject<T: Real>(name: &Path) -> Result<(Loaded<T>, Subject)> {
    let name = name.to_str().context("--model is not UTF-8")?;
    let loaded = load::<T>(name).with_context(|| format!("model {name}"))?;
    let subject = subject(&loaded.identity)?;
    Ok((loaded, subject))
}

/// The record of a model: what it is, and the digest of the files it was made of.
pub fn subject(identity: &Identity) -> Result<Subject> {
    let mut files = identity
        .files
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, digest_file(path)?))
        })
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(Subject {
        family: identity.family.clone(),
        parameters: identity.parameters,
        n_blocks: identity.n_blocks,
        n_heads: identity.n_heads,
        d_model: identity.d_model,
        content_id: Digest::of_parts(files.iter().map(|(name, digest)| (name.as_str(), *digest))),
    })
}

/// Refuses requests whose tokens a vocabulary of `vocab` does not have.
///
/// # Errors
/// The request, the place and the token.
pub fn check_tokens(requests: &[Request], vocab: usize) -> Result<()> {
    for request in requests {
        let tokens = request.context.iter().chain(&request.continuation);
        if let Some((position, token)) = tokens.enumerate().find(|(_, token)| **token as usize >= vocab) {
            return Err(Misfit(format!(
                "request {}, position {position}: token {token} is beyond the model's vocabulary of {vocab}: \
                 these requests were made with another tokenizer",
                request.request
            ))
            .into());
        }
    }
    Ok(())
}
