//! What is refused when a model is loaded, with the message; and what is accepted in more than one form.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rote_model::{Positions, load, load_size, load_spec, load_tokenizer};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tiny").join(name)
}

/// A private copy of a tiny checkpoint.
struct Copy {
    folder: TempDir,
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

impl Copy {
    fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(tiny(name)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        Copy { folder }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn name(&self) -> String {
        self.folder.path().to_string_lossy().into_owned()
    }

    fn config(self, change: impl Fn(&mut Value)) -> Self {
        let path = self.path("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
        self
    }

    fn set(self, key: &str, value: Value) -> Self {
        self.config(|config| config[key] = value.clone())
    }

    fn tensors(self, change: impl Fn(&mut Tensors)) -> Self {
        let path = self.path("model.safetensors");
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Tensors = file
            .tensors()
            .into_iter()
            .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
            .collect();
        change(&mut tensors);
        let views = tensors.iter().map(|(name, (dtype, shape, data))| {
            (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
        });
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
        self
    }

    fn cut(self, file: &str, keep: impl Fn(usize) -> usize) -> Self {
        let bytes = fs::read(self.path(file)).unwrap();
        fs::write(self.path(file), &bytes[..keep(bytes.len())]).unwrap();
        self
    }
}

fn refused(name: &str, parts: &[&str]) {
    let error = match load::<f32>(name) {
        Ok(_) => panic!("{name} was loaded; expected to be refused for {parts:?}"),
        Err(error) => format!("{error:#}"),
    };
    for part in parts {
        assert!(error.contains(part), "`{error}` does not say `{part}`");
    }
}

const DENSE: &str = "gpt_neox.layers.1.attention.dense.weight";

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let copy = Copy::of("neox-parallel").tensors(|tensors| drop(tensors.remove(DENSE)));
    refused(&copy.name(), &["model.safetensors", DENSE, "is missing", "[32, 32]"]);
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    let copy = Copy::of("neox-parallel").tensors(|tensors| tensors.get_mut(DENSE).unwrap().1 = vec![16, 64]);
    refused(&copy.name(), &[DENSE, "[16, 64]", "[32, 32]"]);
}

#[test]
fn a_left_over_tensor_is_named() {
    let copy = Copy::of("neox-parallel").set("num_hidden_layers", json!(2));
    refused(&copy.name(), &["no place for", "gpt_neox.layers.2.attention.dense.bias", "and 7 more"]);
}

#[test]
fn a_tensor_of_whole_numbers_is_refused() {
    let copy = Copy::of("neox-parallel").tensors(|tensors| tensors.get_mut(DENSE).unwrap().0 = Dtype::I32);
    refused(&copy.name(), &[DENSE, "I32"]);
}

#[test]
fn truncated_and_empty_files_are_told() {
    let keeps: [fn(usize) -> usize; 4] = [|n| n - 1, |n| n / 2, |_| 100, |_| 3];
    for keep in keeps {
        let copy = Copy::of("neox-parallel").cut("model.safetensors", keep);
        refused(&copy.name(), &["model.safetensors", "truncated"]);
        let copy = Copy::of("neox-old").cut("pytorch_model.bin", keep);
        refused(&copy.name(), &["pytorch_model.bin", "truncated"]);
        let copy = Copy::of("gguf-llama").cut("model.gguf", keep);
        refused(&copy.path("model.gguf").to_string_lossy(), &["model.gguf"]);
    }
    for (case, file) in [
        ("neox-parallel", "model.safetensors"),
        ("neox-parallel", "config.json"),
        ("neox-old", "pytorch_model.bin"),
    ] {
        let copy = Copy::of(case).cut(file, |_| 0);
        refused(&copy.name(), &[file, "the file is empty"]);
    }
    let copy = Copy::of("gguf-llama").cut("model.gguf", |_| 0);
    refused(&copy.path("model.gguf").to_string_lossy(), &["model.gguf", "the file is empty"]);
}

#[test]
fn a_missing_shard_is_named() {
    let copy = Copy::of("llama-scaled");
    fs::remove_file(copy.path("model-00002-of-00003.safetensors")).unwrap();
    refused(&copy.name(), &["index.json", "model-00002-of-00003.safetensors", "is missing"]);
}

#[test]
fn folders_without_what_is_needed_say_what_was_looked_for() {
    let copy = Copy::of("neox-parallel");
    fs::remove_file(copy.path("model.safetensors")).unwrap();
    refused(&copy.name(), &["no weights", "pytorch_model.bin.index.json"]);
    fs::remove_file(copy.path("config.json")).unwrap();
    refused(&copy.name(), &["no config.json"]);
    let error = format!("{:#}", load_tokenizer(&Copy::of("neox-parallel").name()).unwrap_err());
    assert!(error.contains("tokenizer.json"), "{error}");
    refused("no/such@thing", &["revision `thing`"]);
    refused("/no/such/folder", &["no such folder or file"]);
}

#[test]
fn unknown_axes_are_refused_by_name() {
    let yarn = json!({"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4});
    for (case, key, value, because) in [
        ("neox-parallel", "model_type", json!("mamba"), "unknown family; known are gpt2, gpt_neo, gpt_neox"),
        ("neox-parallel", "hidden_act", json!("quick_gelu"), "`hidden_act` = \"quick_gelu\""),
        ("neox-parallel", "num_attention_heads", json!(3), "does not divide among 3 heads"),
        ("neox-parallel", "hidden_size", json!(0), "`hidden_size` is 0"),
        ("neox-parallel", "hidden_size", json!("32"), "`hidden_size` is \"32\""),
        ("neox-parallel", "vocab_size", Value::Null, "`vocab_size` is missing"),
        ("neox-parallel", "num_hidden_layers", json!(1_000_000_000), "at most 16384 blocks"),
        ("llama-gqa", "rope_parameters", yarn, "rope type \"yarn\""),
        ("llama-gqa", "num_key_value_heads", json!(3), "do not divide among 3"),
        ("llama-gqa", "partial_rotary_factor", json!(0.5), "`partial_rotary_factor` other than 1"),
        ("neo-local", "attention_types", json!([[["lsh"], 4]]), "attention type \"lsh\""),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(true), "scale_attn_by_inverse_layer_idx"),
        ("opt", "layer_norm_elementwise_affine", json!(false), "layer_norm_elementwise_affine"),
        ("qwen2", "use_sliding_window", json!(true), "use_sliding_window"),
        ("qwen3", "layer_types", json!(["sliding_attention"]), "sliding_attention"),
    ] {
        let copy = Copy::of(case).set(key, value);
        refused(&copy.name(), &["config.json", because]);
        assert!(load_spec(&copy.name()).is_err(), "{because}: the specification alone was read");
    }
}

#[test]
fn an_unknown_architecture_in_a_gguf_is_refused_by_name() {
    let copy = Copy::of("gguf-llama");
    let path = copy.path("model.gguf");
    let text =
        String::from_utf8(fs::read(&path).unwrap()[..2000].iter().map(|b| b & 0x7f).collect()).unwrap();
    assert!(text.contains("llama.block_count"), "the keys have moved");
    let mut bytes = fs::read(&path).unwrap();
    for at in 0..2000 {
        if bytes[at..].starts_with(b"llama") {
            bytes[at..at + 5].copy_from_slice(b"mamba");
        }
    }
    fs::write(&path, bytes).unwrap();
    refused(&path.to_string_lossy(), &["architecture `mamba`", "known are gpt2, llama, qwen2, qwen3"]);
}

/// llama.cpp takes a factor that comes without a type for a linear one's, under either name.
#[test]
fn a_factor_without_a_type_scales_linearly_in_a_gguf() {
    let frequencies = |name: &str| match load_spec(name).unwrap().positions {
        Positions::Rotary(rotary) => rotary.inv_freq,
        Positions::Learned { .. } => panic!("no rotary"),
    };
    let plain = frequencies(&tiny("gguf-qwen2/model.gguf").to_string_lossy());
    for (key, factor) in
        [("rope.scale_linear", 4.0_f32), ("rope.scaling.factor", 2.0), ("rope.scale_linear", 0.0)]
    {
        let copy = Copy::of("gguf-qwen2");
        let path = copy.path("model.gguf");
        let mut bytes = fs::read(&path).unwrap();
        // Magic, version, tensors; then how many entries there are, and the entries: key, type (6: f32), value.
        let entry = |key: &str, value: f32| -> Vec<u8> {
            let len = (key.len() as u64).to_le_bytes();
            [&len[..], key.as_bytes(), &6_u32.to_le_bytes(), &value.to_le_bytes()].concat()
        };
        let mut new = entry(&format!("qwen2.{key}"), factor);
        // Tensors begin at multiples of 32: another entry fills up.
        let fill = 31 - (new.len() + 16) % 32 + 1;
        new.extend(entry(&"x".repeat(fill), 0.0));
        let count = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
        bytes[16..24].copy_from_slice(&(count + 2).to_le_bytes());
        bytes.splice(24..24, new);
        fs::write(&path, bytes).unwrap();
        let divisor = if factor == 0.0 { 1.0 } else { f64::from(factor) };
        let expected: Vec<f64> = plain.iter().map(|freq| f64::from((freq / divisor) as f32)).collect();
        assert_eq!(frequencies(&path.to_string_lossy()), expected, "{key} = {factor}");
    }
}

/// All values, in one fixed order.
fn values(name: &str) -> Vec<f32> {
    let weights = load::<f32>(name).unwrap_or_else(|error| panic!("{error:#}")).model.weights;
    let mut all = weights.embed.to_matrix().data;
    for block in &weights.blocks {
        all.extend(block.qkv.weight.to_matrix().data);
        all.extend(block.down.weight.to_matrix().data);
        all.extend(&block.attn_norm.gain);
    }
    all.extend(weights.unembed.weight.to_matrix().data);
    all
}

#[test]
fn names_are_read_with_and_without_their_prefix() {
    for (case, prefix) in
        [("neox-parallel", "gpt_neox."), ("gpt2", "transformer."), ("opt", "model."), ("qwen3", "model.")]
    {
        let bare = Copy::of(case).tensors(|tensors| {
            let old = std::mem::take(tensors);
            let short = |name: String| name.strip_prefix(prefix).map_or(name.clone(), str::to_string);
            tensors.extend(old.into_iter().map(|(name, tensor)| (short(name), tensor)));
        });
        assert_eq!(values(&bare.name()), values(&tiny(case).to_string_lossy()), "{case}");
    }
}

#[test]
fn a_tied_head_may_be_named_again_but_not_differ() {
    let twice = |change: u8| {
        Copy::of("qwen3").tensors(move |tensors| {
            let mut head = tensors["model.embed_tokens.weight"].clone();
            head.2[0] ^= change;
            tensors.insert("lm_head.weight".into(), head);
        })
    };
    let same = twice(0);
    let loaded = load::<f32>(&same.name()).unwrap();
    assert_eq!(
        loaded.identity.parameters,
        load::<f32>(&tiny("qwen3").to_string_lossy()).unwrap().identity.parameters
    );
    let other = twice(1);
    refused(&other.name(), &["lm_head.weight", "differs from the embedding"]);
}

#[test]
fn a_name_with_and_without_prefix_is_refused() {
    let copy = Copy::of("neox-parallel").tensors(|tensors| {
        let tensor = tensors[DENSE].clone();
        tensors.insert(DENSE.strip_prefix("gpt_neox.").unwrap().into(), tensor);
    });
    refused(&copy.name(), &["are the same tensor"]);
}

#[test]
fn weights_that_are_not_numbers_are_loaded() {
    let copy = Copy::of("neox-parallel").tensors(|tensors| {
        tensors.get_mut(DENSE).unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let loaded = load::<f32>(&copy.name()).unwrap();
    assert!(loaded.model.weights.blocks[1].o.weight.row(0)[0].is_nan());
}

#[test]
fn parameters_are_counted_as_the_file_holds_them() {
    for case in ["neox-parallel", "gpt2", "opt-post", "qwen2", "qwen3", "neo-local"] {
        let bytes = fs::read(tiny(case).join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let stored: usize =
            file.tensors().iter().map(|(_, view)| view.shape().iter().product::<usize>()).sum();
        let identity = load::<f32>(&tiny(case).to_string_lossy()).unwrap().identity;
        assert_eq!(identity.parameters, stored as u64, "{case}");
        assert_eq!(identity.files.len(), 2, "{case}");
    }
}

/// Buffers of old files are no weights; blocks of a GGUF file count by what they unfold to.
#[test]
fn the_headers_tell_how_many_numbers_the_weights_are() {
    let mut seen = 0;
    for entry in fs::read_dir(tiny("")).unwrap() {
        let path = entry.unwrap().path();
        let gguf = path.join("model.gguf");
        let name = if gguf.is_file() { gguf } else { path };
        let name = name.to_str().unwrap();
        if load_spec(name).is_ok() {
            let parameters = load::<f32>(name).unwrap().identity.parameters;
            assert_eq!(load_size(name).unwrap(), parameters, "{name}");
            seen += 1;
        }
    }
    assert_eq!(seen, 19);
}

#[test]
fn tokens_that_begin_and_end_texts_come_from_where_generation_takes_them() {
    let copy = Copy::of("qwen3");
    let spec = load_spec(&copy.name()).unwrap();
    assert_eq!((spec.prefix_token, spec.eos_tokens), (Some(1), vec![2]));
    fs::write(copy.path("generation_config.json"), r#"{"eos_token_id": [3, 4]}"#).unwrap();
    let spec = load_spec(&copy.name()).unwrap();
    assert_eq!((spec.prefix_token, spec.eos_tokens), (Some(1), vec![3, 4]));
    // A family's default beyond a small vocabulary is no token.
    let copy = Copy::of("gpt2").set("bos_token_id", Value::Null).set("eos_token_id", Value::Null);
    assert_eq!(load_spec(&copy.name()).unwrap().prefix_token, None);
}

#[test]
fn both_spellings_of_the_rotary_share_mean_the_same() {
    let new = load_spec(&tiny("neox-parallel").to_string_lossy()).unwrap();
    let copy = Copy::of("neox-parallel").config(|config| {
        config["rope_parameters"] = Value::Null;
        config["rotary_pct"] = json!(0.25);
        config["rotary_emb_base"] = json!(10_000);
    });
    assert_eq!(load_spec(&copy.name()).unwrap(), new);
    let Positions::Rotary(rotary) = new.positions else { panic!("no rotary") };
    assert_eq!(rotary.inv_freq.len(), 2);
}
