//! Training from text to folder, at a size that takes seconds.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rote_train::model::{Family, Model, Shape};
use rote_train::operations::CrossEntropy;
use rote_train::records::{Planted, Record, count, windows};
use rote_train::{Params, Texts, Trained, folder, optimise, train};

const FAMILIES: [Family; 2] = [Family::GptNeox, Family::GptNeo];

fn params(family: Family) -> Params {
    Params {
        family,
        blocks: 2,
        width: 32,
        heads: 2,
        vocabulary: 320,
        context: 96,
        step_windows: 2,
        learning_rate: 1e-2,
        epochs: 1,
        seed: 5,
    }
}

/// Sentences over forty words, and records of letters that nothing can predict.
fn texts(sentences: usize, seen: &[u32]) -> Texts {
    let mut draw = ChaCha8Rng::seed_from_u64(11);
    let words: Vec<String> =
        (0..40).map(|_| (0..4).map(|_| char::from(b'a' + draw.random_range(0..26))).collect()).collect();
    let mut sentence = || {
        let line: Vec<&str> = (0..8).map(|_| words[draw.random_range(0..words.len())].as_str()).collect();
        format!("{}.\n", line.join(" "))
    };
    let corpus = (0..sentences).map(|_| sentence()).collect();
    let held_out = (0..20).map(|_| sentence()).collect();
    let mut letters = ChaCha8Rng::seed_from_u64(12);
    let record = |(index, &seen): (usize, &u32)| {
        let text = (0..70).map(|_| char::from(b'A' + letters.random_range(0..26))).collect();
        Record { record: index as u32, seen, text }
    };
    Texts { corpus, records: seen.iter().enumerate().map(record).collect(), held_out }
}

fn quietly(texts: &Texts, params: &Params, threads: usize) -> Trained {
    train(texts, params, threads, &mut |_| ()).unwrap()
}

#[test]
fn a_tiny_model_recites_what_it_saw_often_and_nothing_else() {
    for family in FAMILIES {
        let trained = quietly(&texts(500, &[0, 0, 300, 300]), &params(family), 1);
        let recall = &trained.summary.recall;
        assert_eq!((recall[0].seen, recall[0].records, recall[0].exact), (0, 2, 0), "{family:?}: {recall:?}");
        assert_eq!(
            (recall[1].seen, recall[1].records, recall[1].exact),
            (300, 2, 2),
            "{family:?}: {recall:?}"
        );
        let (model, unigram) = (trained.summary.held_out_perplexity, trained.summary.unigram_perplexity);
        assert!(model < unigram, "{family:?}: perplexity {model}, of single tokens {unigram}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_with_any_threads() {
    let bytes =
        |trained: &Trained| folder::files(trained).unwrap().into_iter().collect::<BTreeMap<_, Vec<u8>>>();
    for family in FAMILIES {
        let texts = texts(60, &[0, 4]);
        let first = bytes(&quietly(&texts, &params(family), 1));
        let names: Vec<&str> = first.keys().copied().collect();
        let expected = [
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "training.csv",
            "training.json",
        ];
        assert_eq!(names, expected);
        assert!(
            first == bytes(&quietly(&texts, &params(family), 2)),
            "{family:?}: two threads changed a file"
        );
        let other = bytes(&quietly(&texts, &Params { seed: 6, ..params(family) }, 1));
        assert!(
            first["model.safetensors"] != other["model.safetensors"],
            "{family:?}: the seed changes nothing"
        );
    }
}

#[test]
fn records_are_shown_whole_and_as_often_as_they_say() {
    let mut draw = ChaCha8Rng::seed_from_u64(3);
    let corpus: Vec<u32> = (0..2000).map(|_| draw.random_range(1..50)).collect();
    let planted: Vec<Planted> = [0, 1, 2, 8, 40]
        .into_iter()
        .enumerate()
        .map(|(index, seen)| {
            // tokens that the corpus lacks
            let tokens = (0..10 + index as u32).map(|_| draw.random_range(100..200)).collect();
            Planted { record: index as u32, seen, tokens }
        })
        .collect();
    for (context, epochs) in [(16, 1), (17, 3), (40, 2), (333, 1)] {
        let made = windows(&corpus, epochs, &planted, 0, context, &mut draw).unwrap();
        assert!(made.iter().all(|window| window.len() == context + 1));
        let expected: BTreeMap<u32, u32> =
            planted.iter().map(|planted| (planted.record, planted.seen)).collect();
        assert_eq!(count(&made, &planted), expected, "context {context}, {epochs} epochs");
        let shown = made.iter().flatten().filter(|&&token| token >= 100).count();
        let whole: usize = planted.iter().map(|planted| planted.seen as usize * planted.tokens.len()).sum();
        assert_eq!(shown, whole, "context {context}: a part of a record stands somewhere");
        let first = made.iter().filter(|window| window[0] >= 100).count();
        assert!(first > 0, "context {context}: no record opens a window");
        let text = made.iter().flatten().filter(|&&token| token > 0 && token < 100).count();
        let length = corpus.len() * epochs as usize;
        assert!(
            text >= length && text < length + 3 * context,
            "context {context}: {text} tokens of {length}"
        );
    }
}

#[test]
fn a_record_longer_than_a_window_is_refused() {
    let planted = Planted { record: 9, seen: 1, tokens: vec![1; 20] };
    let error = windows(&[1], 1, &[planted], 0, 16, &mut ChaCha8Rng::seed_from_u64(0)).unwrap_err();
    assert!(error.to_string().starts_with("record 9 has 20 tokens"), "{error}");
}

#[test]
fn a_variable_without_gradient_is_named() {
    for family in FAMILIES {
        let Params { blocks, width, heads, vocabulary, context, .. } = params(family);
        let shape = Shape { family, blocks, width, heads, vocabulary, context };
        let model = Model::new(shape, 1, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
        let tokens: Vec<u32> = (0..2 * context as u32).collect();
        let loss = |logits: Tensor| logits.apply_op1(CrossEntropy::new(&tokens)).unwrap().backward().unwrap();
        let whole = loss(model.logits(&tokens, context).unwrap());
        optimise::complete(&model, &whole).unwrap();
        let cut = loss(model.logits(&tokens, context).unwrap().detach());
        let error = optimise::complete(&model, &cut).unwrap_err().to_string();
        for (name, _) in model.variables() {
            assert!(error.contains(name), "{name} is missing from: {error}");
        }
    }
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let refusal = |family, width, heads, blocks| {
        let shape = Shape { family, blocks, width, heads, vocabulary: 300, context: 64 };
        shape.check().unwrap_err().to_string()
    };
    assert!(refusal(Family::GptNeox, 32, 5, 2).contains("not a multiple of --heads 5"));
    assert!(refusal(Family::GptNeox, 24, 2, 2).contains("a quarter of them"));
    assert!(refusal(Family::GptNeo, 32, 2, 3).contains("even number"));
}
