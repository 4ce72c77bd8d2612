//! From input artifacts to a [`Study`]: rows are put to their model, and what contradicts itself is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rote_artifact::tables::{Bound, Extraction, Reach, Score, Summary, Tightness};
use rote_artifact::{Misfit, read};
use rote_store::{Digest, Manifest, Subject};

use crate::change::{Change, Sort};
use crate::frames;
use crate::items::Items;
use crate::number;
use crate::reach;
use crate::study::{Model, Source, Study, bit, key};

/// Reads everything; the order in which artifacts are named does not matter.
///
/// # Errors
/// [`Misfit`] where an artifact lacks its table, is about two models, or contradicts another.
pub fn gather(
    title: String,
    scores: &[PathBuf],
    extractions: &[PathBuf],
    bounds: &[PathBuf],
) -> Result<Study> {
    let mut models: BTreeMap<Option<Subject>, Model> = BTreeMap::new();
    for (path, manifest) in by_content(scores)? {
        let model = take("scores", path, &manifest, &mut models)?;
        let reading = || format!("--scores {}", path.display());
        add_scores(model, path).with_context(reading)?;
    }
    for (path, manifest) in by_content(extractions)? {
        let model = take("extractions", path, &manifest, &mut models)?;
        for row in read::<Extraction>(path).with_context(|| format!("--extractions {}", path.display()))? {
            model.recited.add(&row);
        }
    }
    let mut bound_rows: BTreeMap<Option<Subject>, (Vec<Bound>, Vec<Reach>)> = BTreeMap::new();
    for (path, manifest) in by_content(bounds)? {
        let model = take("bounds", path, &manifest, &mut models)?;
        let reading = || format!("--bounds {}", path.display());
        let (bounds, reach) = bound_rows.entry(manifest.subjects.first().cloned()).or_default();
        bounds.extend(read::<Bound>(path).with_context(reading)?);
        reach.extend(read::<Reach>(path).with_context(reading)?);
        model.tightness.extend(read::<Tightness>(path).with_context(reading)?);
    }
    for (subject, (bounds, reach)) in bound_rows {
        let model = models.get_mut(&subject).expect("made when its artifact was taken");
        model.bounds = frames::bounds_by_block(&bounds)?;
        model.reached = reach::reached(&reach);
    }

    let mut models: Vec<_> = models.into_values().collect();
    for model in &mut models {
        model.changes = changes(model)?;
    }
    label(&mut models);
    Ok(Study { title, models })
}

/// Artifacts sorted by content, each once.
fn by_content(paths: &[PathBuf]) -> Result<Vec<(&Path, Manifest)>> {
    let mut artifacts = paths
        .iter()
        .map(|path| {
            if !path.join(Manifest::FILE).is_file() {
                let message = format!("{} is no artifact: it has no {}", path.display(), Manifest::FILE);
                return Err(Misfit(message).into());
            }
            Ok((path.as_path(), Manifest::read(path)?))
        })
        .collect::<Result<Vec<_>>>()?;
    // Two models may well give the same rows: the content alone does not tell their artifacts apart.
    let identity = |manifest: &Manifest| (manifest.content_id, manifest.subjects.clone());
    artifacts.sort_by_key(|(_, manifest)| identity(manifest));
    artifacts.dedup_by_key(|(_, manifest)| identity(manifest));
    Ok(artifacts)
}

/// The model an artifact is about, with the artifact among its sources.
fn take<'a>(
    flag: &'static str,
    path: &Path,
    manifest: &Manifest,
    models: &'a mut BTreeMap<Option<Subject>, Model>,
) -> Result<&'a mut Model> {
    if manifest.subjects.len() > 1 {
        return Err(Misfit(format!(
            "--{flag} {}: {} models in one artifact; give one artifact per model",
            path.display(),
            manifest.subjects.len()
        ))
        .into());
    }
    let subject = manifest.subjects.first().cloned();
    let model = models.entry(subject.clone()).or_default();
    model.subject = subject;
    model.sources.push(Source {
        flag,
        stage: format!("{} {}", manifest.stage.name, manifest.stage.version),
        content_id: manifest.content_id,
        parameters: manifest.parameters.clone(),
        inputs: manifest.inputs.clone(),
        lineage: manifest.lineage.clone(),
        rows: manifest.tables.iter().map(|(name, table)| (name.clone(), table.rows)).collect(),
        warnings: manifest.warnings.clone(),
    });
    Ok(model)
}

fn add_scores(model: &mut Model, path: &Path) -> Result<()> {
    for row in read::<Summary>(path)? {
        let key = key(&row);
        // The artifact was taken as the last source; of two that say the same the first counts.
        model.origins.entry(key.clone()).or_insert(bit(model.sources.len() - 1));
        if let Some(other) = model.rows.insert(key, row.clone())
            && other != row
        {
            return Err(Misfit(format!(
                "{} of suite {}, role {}, at {}: {} here and {} in another artifact of the same model; report \
                 them apart",
                row.metric, row.suite, row.role, row.change, row.value, other.value
            ))
            .into());
        }
    }
    // The items themselves say how far means over interventions may be off; sums are enough for everything else.
    if path.join("score").is_dir() {
        let inputs = &model.sources.last().expect("the artifact was taken").inputs;
        let asked: Vec<Digest> =
            inputs.get("requests").into_iter().flatten().map(|input| input.content_id).collect();
        Items::add(&mut model.items, &asked, &read::<Score>(path)?);
    }
    Ok(())
}

fn changes(model: &Model) -> Result<Vec<Change>> {
    let summaries = model.rows.keys().map(|key| key.0.as_str());
    let mut texts: Vec<_> = summaries.chain(model.bounds.iter().map(|group| group.change.as_str())).collect();
    texts.sort_unstable();
    texts.dedup();
    let mut changes = texts.into_iter().map(Change::new).collect::<Result<Vec<_>>>()?;
    changes.sort();
    if !model.rows.is_empty() && changes.first().is_none_or(|change| change.sort != Sort::None) {
        return Err(Misfit("summaries hold no rows for `none`, the unchanged model".into()).into());
    }
    Ok(changes)
}

/// Names models by family, size and depth, and by content where that is not enough.
fn label(models: &mut [Model]) {
    for model in models.iter_mut() {
        model.label = match &model.subject {
            Some(subject) => format!(
                "{} {} · {} blocks",
                family(&subject.family),
                number::parameters(subject.parameters),
                subject.n_blocks
            ),
            None => "model not named by its artifacts".to_string(),
        };
    }
    let labels: Vec<_> = models.iter().map(|model| model.label.clone()).collect();
    for model in models {
        if labels.iter().filter(|label| **label == model.label).count() > 1
            && let Some(subject) = &model.subject
        {
            model.label = format!("{} · {}", model.label, &subject.content_id.short()[..6]);
        }
    }
}

fn family(model_type: &str) -> String {
    match model_type {
        "gpt_neox" => "GPT-NeoX".to_string(),
        "gpt_neo" => "GPT-Neo".to_string(),
        "gpt2" => "GPT-2".to_string(),
        "llama" => "Llama".to_string(),
        other => other.to_string(),
    }
}
