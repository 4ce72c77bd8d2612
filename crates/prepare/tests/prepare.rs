//! From files to requests, through the library, with a tokenizer whose tokens are bytes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rote_artifact::Misfit;
use rote_artifact::tables::Request;
use rote_prepare::encode::{Encode, Reader};
use rote_prepare::{Inputs, Params, prepare};
use rote_stage::exit_code;
use rote_store::Output;
use tempfile::TempDir;

struct Bytes;

impl Encode for Bytes {
    fn encode(&self, text: &str, _: bool) -> Result<Vec<u32>> {
        Ok(text.bytes().map(u32::from).collect())
    }
    fn decode(&self, tokens: &[u32]) -> Result<String> {
        Ok(tokens.iter().map(|&token| char::from(token as u8)).collect())
    }
    fn prefix_token(&self) -> Option<u32> {
        Some(0)
    }
}

/// A folder of input files and what to make of them.
struct Case {
    folder: TempDir,
    inputs: Inputs,
    params: Params,
}

impl Case {
    fn new() -> Case {
        Case {
            folder: tempfile::tempdir().unwrap(),
            inputs: Inputs {
                model: PathBuf::new(),
                sequences: Vec::new(),
                sequences_prefix: None,
                sequences_suffix: None,
                task: Vec::new(),
            },
            params: Params {
                prefix: vec![4],
                suffix: 3,
                stride: None,
                limit: None,
                define: Vec::new(),
                max_length: None,
            },
        }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn sequences(mut self, name: &str, bytes: impl AsRef<[u8]>) -> Case {
        let path = self.file(name, bytes);
        self.inputs.sequences.push(path);
        self
    }

    fn task(mut self, task: &str, path: &Path) -> Case {
        self.inputs.task.push(format!("{task}={}", path.display()));
        self
    }

    fn run(&self) -> Result<Vec<Request>> {
        let output = Output::begin(&self.folder.path().join("out"))?;
        let reader = Reader::new(&Bytes, 200, self.params.max_length.unwrap_or(40))?;
        prepare(&self.inputs, &self.params, &reader, &output)
    }

    /// That the data are refused (exit code 3), with these words.
    fn refused(&self, words: &[&str]) {
        let error = self.run().unwrap_err();
        let message = format!("{error:#}");
        assert_eq!(exit_code(&error), 3, "{message}");
        assert!(error.chain().any(|cause| cause.is::<Misfit>()));
        assert!(words.iter().all(|word| message.contains(word)), "{message:?} lacks one of {words:?}");
    }
}

fn text(tokens: &[u32]) -> String {
    Bytes.decode(tokens).unwrap()
}

fn pairs(requests: &[Request]) -> Vec<(String, String)> {
    requests.iter().map(|request| (text(&request.context), text(&request.continuation))).collect()
}

/// A `.npy` file of unsigned 16-bit numbers.
fn npy(rows: &[&[u16]]) -> Vec<u8> {
    let shape = format!("({}, {})", rows.len(), rows[0].len());
    let header = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(rows.iter().flat_map(|row| row.iter().flat_map(|token| token.to_le_bytes())));
    bytes
}

#[test]
fn records_keep_their_count_and_role_and_short_texts_end_early() {
    let rows = r#"{"text": "abcdefghij", "seen": 8, "record": 1}
{"text": "abcdef", "seen": 0, "role": "control"}

{"text": "abcd"}
"#;
    let requests = Case::new().sequences("records.jsonl", rows).run().unwrap();
    let expected = [("abcd", "efg"), ("abcd", "ef")].map(|(a, b)| (a.to_string(), b.to_string()));
    assert_eq!(pairs(&requests), expected);
    assert_eq!(requests[0].seen, Some(8));
    assert_eq!((requests[0].role.as_str(), requests[1].role.as_str()), ("candidate", "control"));
    assert!(requests.iter().all(|request| request.kind == "sequence" && request.task == "memorization"));
    assert!(requests.iter().all(|request| request.source == "records.jsonl" && request.choice == -1));
    assert_eq!(requests.iter().map(|request| request.request).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(requests.iter().map(|request| request.document).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn several_prefixes_ask_for_the_same_suffix() {
    let mut case = Case::new().sequences("one.jsonl", r#"{"text": "abcdefghij"}"#);
    case.params.prefix = vec![2, 4];
    let expected = [("cd", "efg"), ("abcd", "efg")].map(|(a, b)| (a.to_string(), b.to_string()));
    assert_eq!(pairs(&case.run().unwrap()), expected);
}

#[test]
fn texts_are_cut_into_windows_file_by_file() {
    let mut case = Case::new();
    case.file("texts/b.txt", "0123456789ABCDEF");
    case.file("texts/a/z.md", "short");
    case.inputs.sequences.push(case.folder.path().join("texts"));
    let requests = case.run().unwrap();
    let expected = [("shor", "t"), ("0123", "456"), ("789A", "BCD")];
    assert_eq!(pairs(&requests), expected.map(|(a, b)| (a.to_string(), b.to_string())));
    assert_eq!((requests[0].source.as_str(), requests[1].source.as_str()), ("a/z.md", "b.txt"));
    case.params.stride = Some(3);
    assert_eq!(case.run().unwrap().len(), 1 + 4);
    case.params.limit = Some(2);
    assert_eq!(case.run().unwrap().len(), 1 + 2);
}

#[test]
fn arrays_are_read_whole_or_in_two_files() {
    let case = Case::new().sequences("rows.npy", npy(&[&[1, 2, 3, 4, 5, 6, 7], &[9, 8, 7, 6, 5, 4, 3]]));
    let whole = case.run().unwrap();
    assert_eq!((&whole[1].context[..], &whole[1].continuation[..]), (&[9, 8, 7, 6][..], &[5, 4, 3][..]));

    let mut case = Case::new();
    case.inputs.sequences_prefix = Some(case.file("p.npy", npy(&[&[9, 1, 2, 3, 4]])));
    case.inputs.sequences_suffix = Some(case.file("s.npy", npy(&[&[5, 6, 7, 8, 9]])));
    let pair = case.run().unwrap();
    assert_eq!((&pair[0].context, &pair[0].continuation), (&whole[0].context, &whole[0].continuation));
    case.params.prefix = vec![6];
    case.refused(&["p.npy", "5 tokens", "--prefix asks for 6"]);
}

#[test]
fn what_is_no_sequence_is_refused_with_file_and_row() {
    let case = |name: &str, bytes: &[u8]| Case::new().sequences(name, bytes);
    case("empty.npy", b"").refused(&["empty.npy", "empty"]);
    case("empty.jsonl", b"\n").refused(&["empty.jsonl", "no rows"]);
    case("empty.txt", b"").refused(&["empty.txt", "is empty"]);
    case("binary.txt", b"abc\xff\xfe").refused(&["binary.txt", "not UTF-8", "byte 3"]);
    case("bad.jsonl", b"{\"text\": \"abcdefgh\"}\n{\"text\"").refused(&["bad.jsonl", "line 2"]);
    case("other.jsonl", b"{\"body\": \"x\"}").refused(&["other.jsonl", "row 0", "`tokens` nor `text`"]);
    case("mixed.jsonl", b"{\"tokens\": [1, 2, \"x\"]}").refused(&["row 0", "column 2", "no token id"]);
    case("negative.jsonl", b"{\"tokens\": [1, -2]}").refused(&["row 0", "column 1", "-2"]);
    case("seen.jsonl", b"{\"text\": \"abcdefgh\", \"seen\": \"often\"}").refused(&["row 0", "`seen`"]);
    case("narrow.npy", &npy(&[&[1, 2, 3]])).refused(&["narrow.npy", "row 0", "3 tokens", "ask for 7"]);
    let ragged = b"{\"tokens\": [1, 2, 3, 4, 5, 6, 7]}\n{\"tokens\": [1, 2]}";
    case("ragged.jsonl", ragged).refused(&["ragged.jsonl", "row 1", "2 tokens"]);
    case("cut.parquet", b"PAR1 and no more").refused(&["cut.parquet", "not a readable Parquet file"]);
    let beyond = npy(&[&[1, 2, 3, 4, 5, 6, 7], &[1, 2, 3, 199, 200, 6, 7]]);
    case("beyond.npy", &beyond).refused(&["beyond.npy", "row 1, column 4", "token 200", "vocabulary of 200"]);
}

#[test]
fn sequences_longer_than_the_model_are_refused() {
    let mut case = Case::new().sequences("one.jsonl", format!(r#"{{"text": "{}"}}"#, "x".repeat(60)));
    case.params.prefix = vec![38];
    case.run().unwrap();
    case.params.prefix = vec![39];
    case.refused(&["41 tokens of input", "reads 40"]);
}

#[test]
fn tasks_follow_the_sequences_and_number_their_documents_on() {
    let mut case = Case::new().sequences("one.jsonl", r#"{"text": "abcdefgh"}"#);
    let first = case.file("first.jsonl", "{\"text\": \"one two\"}\n{\"text\": \"three four\"}\n");
    let second = case.file("second.jsonl", "{\"context\": \"five\", \"continuation\": \"six\"}\n");
    case = case.task("lambada_openai", &first).task("lambada_openai", &second);
    let requests = case.run().unwrap();
    let documents: Vec<_> =
        requests.iter().map(|r| (r.task.as_str(), r.document, r.source.as_str())).collect();
    assert_eq!(
        documents,
        [
            ("memorization", 0, "one.jsonl"),
            ("lambada_openai", 0, "first.jsonl"),
            ("lambada_openai", 1, "first.jsonl"),
            ("lambada_openai", 2, "second.jsonl"),
        ]
    );
    assert_eq!(pairs(&requests)[3], ("five".to_string(), " six".to_string()));
    assert!(requests[1..].iter().all(|request| request.role == "benchmark" && request.kind == "word"));
    // Of the task, not of each of its files.
    for (limit, count) in [(1, 2), (2, 3), (3, 4), (9, 4)] {
        case.params.limit = Some(limit);
        assert_eq!(case.run().unwrap().len(), count);
    }
}

#[test]
fn long_contexts_are_cut_from_the_left_to_the_models_length() {
    let case = Case::new();
    let file = case.file("long.jsonl", format!("{{\"text\": \"{} end\"}}", "0123456789".repeat(5)));
    let requests = case.task("lambada_openai", &file).run().unwrap();
    // 41 tokens in all: 40 of input and the last, which is only predicted.
    assert_eq!(requests[0].context.len() + requests[0].continuation.len(), 41);
    assert_eq!(text(&requests[0].continuation), " end");
    assert!(text(&requests[0].context).ends_with("789"));
}

#[test]
fn labels_may_be_a_file_beside_the_items() {
    let kept = Case::new();
    let items = "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b \"}\n{\"goal\": \"h\", \"sol1\": \"c\", \"sol2\": \"d\"}";
    let file = kept.file("piqa/valid.jsonl", items);
    kept.file("piqa/valid-labels.lst", "1\n0\n");
    let folder = file.parent().unwrap().to_path_buf();
    let requests = Case::new().task("piqa", &folder).run().unwrap();
    assert_eq!(requests.iter().map(|request| request.gold).collect::<Vec<_>>(), [1, 1, 0, 0]);
    assert_eq!(text(&requests[0].context), "Question: g\nAnswer:");
    assert_eq!(text(&requests[1].continuation), " b ");
    Case::new().task("piqa", &file).refused(&["row 0", "`label`", "the folder of both"]);
    fs::write(folder.join("valid-labels.lst"), "1\n").unwrap();
    Case::new().task("piqa", &folder).refused(&["1 labels for 2 rows"]);
}

#[test]
fn items_of_another_task_are_refused() {
    let case = Case::new();
    let file = case.file("x.jsonl", "{\"text\": \"one two\"}");
    case.task("hellaswag", &file).refused(&["x.jsonl", "row 0", "no item of hellaswag", "`ctx_a`"]);
    let case = Case::new();
    let row = "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\", \"label\": 2}";
    let file = case.file("x.jsonl", row);
    case.task("piqa", &file).refused(&["row 0", "number 2 of 2 choices"]);
}

#[test]
fn a_page_is_asked_in_windows() {
    let case = Case::new();
    let page = format!(" = Title = \n \n {}\n", "word ".repeat(20));
    let file = case.file("pages.raw", &page);
    let requests = case.task("wikitext", &file).run().unwrap();
    assert!(requests.len() > 1);
    assert_eq!(requests[0].context, [0]);
    let whole: String = requests.iter().map(|request| text(&request.continuation)).collect();
    assert_eq!(whole, format!(" = Title =\n\n{}\n", "word ".repeat(20).trim_end()));
    assert!(requests.iter().all(|request| request.document_bytes as usize == page.len()));
    assert!(requests.iter().all(|request| request.document == 0 && request.document_words == 25));
}

#[test]
fn a_task_of_ones_own_is_declared_not_programmed() {
    let mut case = Case::new();
    let rows = "{\"q\": \"1+1\", \"o\": [\"2\", \"3\"], \"g\": 0}\n{\"q\": \"2+2\", \"o\": [\"3\", \"4\"], \"g\": 1}";
    let file = case.file("sums.jsonl", rows);
    let declaration =
        r#"{"name": "sums", "kind": "choice", "context": "{q} =", "choices": "{o}", "gold": "{g}"}"#;
    case.params.define = vec![declaration.to_string()];
    let case = case.task("sums", &file);
    let requests = case.run().unwrap();
    assert_eq!(pairs(&requests)[3], ("2+2 =".to_string(), " 4".to_string()));
    assert!(requests.iter().all(|request| request.task == "sums" && request.kind == "choice"));
    assert_eq!(requests.iter().map(|request| request.gold).collect::<Vec<_>>(), [0, 0, 1, 1]);

    let mut twice = Case::new();
    twice.params.define = vec![declaration.to_string(), declaration.to_string()];
    let error = twice.task("sums", &file).run().unwrap_err();
    assert_eq!(error.to_string(), "--define: there is a task called `sums` already");
}

#[test]
fn parquet_of_the_hub_is_read_with_its_compression() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hellaswag.parquet");
    let mut case = Case::new();
    case.params.max_length = Some(100);
    let requests = case.task("hellaswag", &file).run().unwrap();
    assert_eq!(requests.len(), 8);
    assert_eq!(requests.iter().step_by(4).map(|request| request.gold).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(text(&requests[4].context), "Sailing: The wind drops.");
    assert_eq!(text(&requests[2].continuation), " sings. loudly.");
}

/// The hashes are those of lm-evaluation-harness: `sha256(json.dumps(doc, indent=2, ensure_ascii=False))`, with
/// what HellaSwag's `process_docs` adds, computed by Python's `json` and `hashlib`.
#[test]
fn documents_have_the_harness_hashes_whatever_file_they_come_from() {
    let hash = |task: &str, name: &str, text: &str| -> String {
        let mut case = Case::new();
        case.params.max_length = Some(400);
        let file = case.file(name, text);
        let requests = case.task(task, &file).run().unwrap();
        assert!(requests.iter().all(|request| request.doc_hash == requests[0].doc_hash));
        requests[0].doc_hash.clone()
    };
    let lambada = "904cce48f465";
    assert_eq!(hash("lambada_openai", "x.jsonl", r#"{"text": "a \"b\"\n\u00e9 c"}"#)[..12], *lambada);
    let split = r#"{"context": "a \"b\"\n\u00e9", "continuation": "c"}"#;
    assert_eq!(hash("lambada_openai", "x.jsonl", split)[..12], *lambada);
    let own = r#"{"id": "x", "question": {"stem": "q", "choices": [{"text": "a", "label": "A", "para": "p"},
        {"text": "b", "label": "B"}]}, "answerKey": "B"}"#;
    assert_eq!(hash("arc_easy", "x.jsonl", &own.replace('\n', " "))[..12], *"4f2424e4ee0d");
    let row = r#"{"ind": 1, "activity_label": "S", "ctx_a": "A.", "ctx_b": "b", "endings": ["c [x]", "d"], "label": 1}"#;
    assert_eq!(hash("hellaswag", "x.jsonl", row)[..12], *"996c6967d3cf");
    let row = r#"{"goal": "g", "sol1": "a", "sol2": "b", "label": "1"}"#;
    assert_eq!(hash("piqa", "x.jsonl", row)[..12], *"136960c1b7fd");
    // A later row is hashed in the order of the first.
    let other = r#"{"sol2": "y", "goal": "h", "label": 0, "sol1": "x"}"#;
    let mut case = Case::new();
    case.params.max_length = Some(400);
    let file = case.file("x.jsonl", format!("{row}\n{other}"));
    let requests = case.task("piqa", &file).run().unwrap();
    assert_eq!(requests[2].doc_hash[..12], *"84cfefff690a");
    assert_eq!(hash("wikitext", "x.raw", " = T = \n a\tb \n")[..12], *"ab712c8c3925");
}
