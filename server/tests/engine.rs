//! The reference bundle in ONNX Runtime: the same answers as PyTorch, and the same answers whoever
//! else is in the batch and however many tokens a call verifies.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloister_onnx::{
    Bundle, ExecutionProvider, OnnxError, Runtime, Session, SessionOptions, TrustedHashes,
    library_path,
};
use cloister_proto::v1;
use cloister_server::engine::{
    Batch, Context, DecodeOptions, Decoded, Encoded, EngineError, Graphs, Guess, Input, Ngrams,
    ReportSpec, Row, TOKENS_PER_STEP, TextLayout, run,
};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Parity {
    tolerance: Tolerance,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Tolerance {
    label_logits: f32,
    top_logprobs: f32,
}

#[derive(Deserialize)]
struct Case {
    films: Vec<i64>,
    query: String,
    view: String,
    age: String,
    sex: String,
    text_ids: Vec<i64>,
    label_logits: Vec<Vec<f32>>,
    tokens: Vec<u32>,
    top_logprobs: Vec<Vec<f32>>,
}

struct Reference {
    spec: ReportSpec,
    layout: TextLayout,
    graphs: Graphs,
    /// The bundle's own table, if it has one.
    guess: Guess,
    parity: Parity,
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

fn bundle() -> Bundle {
    let trust = TrustedHashes::compiled_in().unwrap();
    Bundle::load(&models().join("cxr-report-ref"), &trust).unwrap()
}

fn reference() -> Reference {
    let library = library_path().expect("the pinned library; run `make setup`");
    let bundle = bundle();
    let spec = ReportSpec::of(&bundle).unwrap();
    let runtime = Runtime::init(&library).unwrap();
    let graphs = Graphs::load(&runtime, &bundle, SessionOptions::default(), &spec).unwrap();
    let tokenizer = bundle.read(&spec.text.tokenizer).unwrap();
    let prefix = String::from_utf8(bundle.read(&spec.text.prefix).unwrap()).unwrap();
    let layout = TextLayout::new(&tokenizer, &prefix, spec.text.clone(), spec.decode).unwrap();
    let parity = serde_json::from_slice(&bundle.read("parity.json").unwrap()).unwrap();
    Reference {
        guess: Guess::of(&bundle, &spec).unwrap(),
        spec,
        layout,
        graphs,
        parity,
    }
}

/// The phantom whose formula stands in parity.json.
fn phantom(film: i64, spec: &ReportSpec) -> Input {
    let mut pixels = Vec::new();
    for y in 0..i64::from(spec.input.height) {
        for x in 0..i64::from(spec.input.width) {
            let weave = (31 * x + 17 * y + 59 * film + x * y / 16) % 64;
            let aside = |centre: i64| (x - centre).pow(2) + (y - 110).pow(2) / 3;
            let lungs = if aside(70).min(aside(154)) < 2025 + 400 * film {
                180
            } else {
                40
            };
            let value = ((weave + lungs) % 256) as f32;
            pixels.push((value / 255.0 - spec.input.mean) / spec.input.std);
        }
    }
    Input {
        height: spec.input.height as usize,
        width: spec.input.width as usize,
        pixels,
    }
}

fn context(case: &Case) -> Context {
    let view = match case.view.as_str() {
        "pa" => v1::View::Pa,
        "ap" => v1::View::Ap,
        "lateral" => v1::View::Lateral,
        _ => v1::View::Unspecified,
    };
    let age = match case.age.as_str() {
        "under_18" => v1::AgeBand::Under18,
        "18_39" => v1::AgeBand::AgeBand1839,
        "40_64" => v1::AgeBand::AgeBand4064,
        "65_89" => v1::AgeBand::AgeBand6589,
        "90_and_over" => v1::AgeBand::AgeBand90AndOver,
        _ => v1::AgeBand::Unspecified,
    };
    let sex = match case.sex.as_str() {
        "female" => v1::Sex::Female,
        "male" => v1::Sex::Male,
        "other" => v1::Sex::Other,
        _ => v1::Sex::Unspecified,
    };
    Context { view, age, sex }
}

impl Reference {
    fn encode(&mut self, films: &[i64], query: &str, context: Context) -> Encoded {
        let films: Vec<Input> = films
            .iter()
            .map(|&film| phantom(film, &self.spec))
            .collect();
        let text = self.layout.ids(query, context).unwrap();
        self.graphs.encode(&films, &text).unwrap()
    }

    fn decode(&mut self, requests: Vec<(Encoded, Guess)>, tokens_per_step: usize) -> Vec<Decoded> {
        run(
            &mut self.graphs,
            self.spec.decode,
            requests,
            DecodeOptions { tokens_per_step },
        )
        .unwrap()
    }

    /// Eight requests of 1 to 4 films, short and long queries: no two rows are alike.
    fn requests(&mut self) -> Vec<Encoded> {
        let contexts = [
            Context {
                view: v1::View::Pa,
                age: v1::AgeBand::AgeBand4064,
                sex: v1::Sex::Female,
            },
            Context {
                view: v1::View::Ap,
                age: v1::AgeBand::AgeBand6589,
                sex: v1::Sex::Male,
            },
        ];
        let queries = [
            "",
            "Cough.",
            "Is there pleural effusion?",
            "Fever for three days. Pneumonia? Compare left and right.",
        ];
        (0..8)
            .map(|index: usize| {
                let films: Vec<i64> = (0..=(index % 4) as i64)
                    .map(|film| film + index as i64)
                    .collect();
                self.encode(&films, queries[index % 4], contexts[index % 2])
            })
            .collect()
    }

    /// Every request by itself, one token per call: what all other ways are compared with.
    fn alone(&mut self, requests: &[Encoded]) -> Vec<Decoded> {
        requests
            .iter()
            .map(|request| {
                self.decode(vec![(request.clone(), Guess::Nothing)], 1)
                    .remove(0)
            })
            .collect()
    }

    /// Calls of the step graph that one request takes.
    fn calls(&mut self, request: Encoded, guess: Guess) -> usize {
        let tokens_per_step = guess.tokens_per_step();
        let mut batch = Batch::new(&self.graphs, self.spec.decode).unwrap();
        let row = Row::new(0, request, guess, &self.spec.decode);
        batch.change(vec![row], |_| true).unwrap();
        let mut calls = 0;
        while !batch.is_empty() {
            batch
                .step(&mut self.graphs, DecodeOptions { tokens_per_step })
                .unwrap();
            batch.change(Vec::new(), |_| true).unwrap();
            calls += 1;
        }
        calls
    }
}

/// Compares ways to decode with the plain one: the same tokens, nearly the same probabilities.
struct Comparison {
    alone: Vec<Decoded>,
    worst: f32,
}

impl Comparison {
    fn with(&mut self, name: &str, others: &[Decoded]) {
        assert_eq!(self.alone.len(), others.len());
        for (one, other) in self.alone.iter().zip(others) {
            assert_eq!(ids(one), ids(other), "{name}");
            for (a, b) in one.tokens.iter().zip(&other.tokens) {
                self.worst = self
                    .worst
                    .max((a.log_probability - b.log_probability).abs());
            }
        }
    }
}

fn ids(decoded: &Decoded) -> Vec<u32> {
    decoded.tokens.iter().map(|token| token.id).collect()
}

#[test]
fn the_graphs_answer_as_pytorch_did() {
    let mut reference = reference();
    for index in 0..reference.parity.cases.len() {
        let case = &reference.parity.cases[index];
        let text = reference.layout.ids(&case.query, context(case)).unwrap();
        let counted: Vec<i64> = text
            .ids
            .iter()
            .zip(&text.mask)
            .filter(|&(_, &mask)| mask == 1)
            .map(|(&id, _)| id)
            .collect();
        assert_eq!(counted, case.text_ids, "the text layout is the trained one");
        let (films, query, context) = (case.films.clone(), case.query.clone(), context(case));
        let encoded = reference.encode(&films, &query, context);
        let case = &reference.parity.cases[index];
        for (label, logit) in encoded.label_logits.iter().enumerate() {
            let highest = case
                .label_logits
                .iter()
                .map(|film| film[label])
                .fold(f32::MIN, f32::max);
            assert!(
                (logit - highest).abs() <= reference.parity.tolerance.label_logits,
                "{logit} {highest}"
            );
        }
        let decoded = reference
            .decode(vec![(encoded, Guess::Nothing)], 1)
            .remove(0);
        let case = &reference.parity.cases[index];
        assert_eq!(ids(&decoded), case.tokens);
        assert!(decoded.finished);
        for (token, top) in decoded.tokens.iter().zip(&case.top_logprobs) {
            let difference = (token.log_probability - top[0]).abs();
            assert!(
                difference <= reference.parity.tolerance.top_logprobs,
                "{difference}"
            );
        }
    }
}

#[test]
fn the_same_request_alone_in_a_batch_of_8_and_at_n_3_gives_identical_tokens() {
    let mut reference = reference();
    let requests = reference.requests();
    let alone = reference.alone(&requests);
    let mut compare = Comparison {
        alone: alone.clone(),
        worst: 0.0,
    };
    let together = reference.decode(
        requests
            .iter()
            .map(|r| (r.clone(), Guess::Nothing))
            .collect(),
        1,
    );
    compare.with("batch of 8", &together);
    // Guesses that are right, wrong every third time, and absent.
    let right = |decoded: &Decoded| Guess::Draft(ids(decoded));
    let wrong = |decoded: &Decoded| {
        let ids = ids(decoded);
        let wrong = |(at, &id): (usize, &u32)| if at % 3 == 2 { id ^ 1 } else { id };
        Guess::Draft(ids.iter().enumerate().map(wrong).collect())
    };
    for (name, guess) in [
        ("right guesses", &right as &dyn Fn(&Decoded) -> Guess),
        ("wrong guesses", &wrong),
        ("no guesses", &|_| Guess::Nothing),
    ] {
        let guessed = |index: usize| (requests[index].clone(), guess(&alone[index]));
        let single: Vec<Decoded> = (0..8)
            .map(|index| reference.decode(vec![guessed(index)], 3).remove(0))
            .collect();
        compare.with(&format!("n = 3, {name}"), &single);
        let batch = reference.decode((0..8).map(guessed).collect(), 3);
        compare.with(&format!("n = 3 in a batch of 8, {name}"), &batch);
    }
    let worst = compare.worst;
    println!("largest difference of a token's log-probability: {worst:e}");
    assert!(worst < 1e-3);
}

/// The table of what follows two tokens in these drafts. With `turn`, of what never does.
fn table(drafts: &[Decoded], spec: &ReportSpec, turn: u32) -> Guess {
    let mut next = BTreeMap::new();
    for draft in drafts {
        let tokens: Vec<u32> = std::iter::once(spec.decode.bos).chain(ids(draft)).collect();
        for three in tokens.windows(3) {
            next.insert((three[0], three[1]), three[2] ^ turn);
        }
    }
    let rows: Vec<[u32; 3]> = next.into_iter().map(|((a, b), c)| [a, b, c]).collect();
    let json = json!({ "order": 3, "next": rows }).to_string();
    Guess::Table(Arc::new(Ngrams::parse(json.as_bytes(), spec).unwrap()))
}

#[test]
fn drafting_with_a_table_writes_the_same_tokens_in_fewer_calls() {
    let mut reference = reference();
    let requests = reference.requests();
    let alone = reference.alone(&requests);
    let mut compare = Comparison {
        alone: alone.clone(),
        worst: 0.0,
    };
    let own = table(&alone, &reference.spec, 0);
    let misleading = table(&alone, &reference.spec, 1);
    let mut tables = vec![("own table", own), ("misleading table", misleading)];
    if matches!(reference.guess, Guess::Table(_)) {
        tables.push(("the bundle's table", reference.guess.clone()));
    }
    for (name, guess) in &tables {
        let row = |request: &Encoded| (request.clone(), guess.clone());
        for count in [TOKENS_PER_STEP, 3] {
            let single: Vec<Decoded> = requests
                .iter()
                .map(|request| reference.decode(vec![row(request)], count).remove(0))
                .collect();
            compare.with(&format!("{name}, n = {count}"), &single);
            let batch = reference.decode(requests.iter().map(row).collect(), count);
            compare.with(&format!("{name}, n = {count}, batch of 8"), &batch);
        }
        let mut calls = 0;
        for request in &requests {
            calls += reference.calls(request.clone(), guess.clone());
        }
        let tokens: usize = alone.iter().map(|draft| draft.tokens.len()).sum();
        let each = tokens as f32 / calls as f32;
        println!("{name}: {tokens} tokens in {calls} calls, {each:.2} a call");
        // The opening is guessed without the table, so that even a misleading one saves a call.
        let least = if *name == "misleading table" {
            1.0
        } else {
            1.5
        };
        assert!(each > least, "{name}");
    }
    let worst = compare.worst;
    println!("largest difference of a token's log-probability: {worst:e}");
    assert!(worst < 1e-3);
}

/// The table of a bundle with the reference bundle's keys after a change, and one file.
#[expect(
    clippy::disallowed_methods,
    reason = "test fixtures need not survive a power cut"
)]
fn changed(file: &[u8], change: impl FnOnce(&mut toml::Table)) -> Result<Guess, EngineError> {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(models().join("cxr-report-ref/bundle.toml")).unwrap();
    let mut keys: toml::Table = toml::from_str(&text).unwrap();
    let entry = json!({ "path": "ngrams.json", "sha256": hex::encode(Sha256::digest(file)) });
    keys.insert(
        "file".to_owned(),
        toml::Value::try_from(vec![entry]).unwrap(),
    );
    keys.insert(
        "ngrams".to_owned(),
        toml::Value::Table(toml::from_str("file = 'ngrams.json'\norder = 3").unwrap()),
    );
    change(&mut keys);
    let text = keys.to_string();
    std::fs::write(dir.path().join("ngrams.json"), file).unwrap();
    std::fs::write(dir.path().join("bundle.toml"), &text).unwrap();
    let trust = TrustedHashes::default()
        .with_hash(&hex::encode(Sha256::digest(&text)))
        .unwrap();
    let bundle = Bundle::load(dir.path(), &trust).unwrap();
    Guess::of(&bundle, &ReportSpec::of(&bundle)?)
}

fn table_of(order: usize, rows: &[[u32; 3]]) -> Vec<u8> {
    json!({ "order": order, "next": rows })
        .to_string()
        .into_bytes()
}

#[test]
fn a_damaged_table_stops_the_start() {
    let good = table_of(3, &[[1, 3, 20], [3, 20, 21], [3, 21, 22]]);
    assert!(matches!(changed(&good, |_| ()), Ok(Guess::Table(_))));
    let many: Vec<[u32; 3]> = (0..20_001).map(|at| [at / 1000, at % 1000, 1]).collect();
    for (name, bad) in [
        ("another order", table_of(2, &[[1, 3, 20]])),
        ("unsorted", table_of(3, &[[3, 20, 21], [1, 3, 20]])),
        (
            "a pair that stands twice",
            table_of(3, &[[1, 3, 20], [1, 3, 21]]),
        ),
        (
            "an id outside the vocabulary",
            table_of(3, &[[1, 3, 1_000_000]]),
        ),
        ("too many rows", table_of(3, &many)),
        ("a short row", br#"{"order":3,"next":[[1,3]]}"#.to_vec()),
        (
            "an unknown key",
            br#"{"order":3,"next":[],"ndxt":[]}"#.to_vec(),
        ),
        ("no table", b"[]".to_vec()),
    ] {
        assert!(
            matches!(changed(&bad, |_| ()), Err(EngineError::Bundle(_))),
            "{name}"
        );
    }
}

#[test]
fn keys_out_of_range_stop_the_start() {
    let table = table_of(3, &[[1, 3, 20]]);
    let shift: Vec<f64> = vec![0.25; bundle_labels()];
    let calibrated = |slope: f64, shift: &[f64]| {
        let mut keys = toml::Table::new();
        keys.insert("method".to_owned(), "platt-cross-fitted".into());
        keys.insert("slope".to_owned(), slope.into());
        keys.insert("shift".to_owned(), shift.to_vec().into());
        changed(&table, |all| {
            all.insert("calibration".to_owned(), keys.into());
        })
    };
    let weights = |weights: &str| {
        changed(&table, |all| {
            let graphs = all.get_mut("graphs").unwrap().as_table_mut().unwrap();
            graphs.insert("weights".to_owned(), weights.into());
        })
    };
    let ngrams = |key: &str, value: toml::Value| {
        changed(&table, |all| {
            let ngrams = all.get_mut("ngrams").unwrap().as_table_mut().unwrap();
            ngrams.insert(key.to_owned(), value);
        })
    };
    assert!(calibrated(0.9, &shift).is_ok());
    assert!(calibrated(0.9, &shift[1..]).is_err());
    assert!(calibrated(f64::NAN, &shift).is_err());
    assert!(calibrated(-1.0, &shift).is_err());
    assert!(calibrated(0.9, &vec![f64::INFINITY; shift.len()]).is_err());
    assert!(weights("int8").is_ok() && weights("f32").is_ok());
    assert!(weights("int4").is_err());
    assert!(ngrams("order", 4.into()).is_err());
    assert!(ngrams("file", "other.json".into()).is_err());
    assert!(ngrams("files", "ngrams.json".into()).is_err());
}

fn bundle_labels() -> usize {
    ReportSpec::of(&bundle()).unwrap().labels.len()
}

#[test]
fn cuda_that_is_not_usable_is_an_error_and_auto_says_that_the_processor_runs() {
    let library = library_path().expect("the pinned library; run `make setup`");
    let runtime = Runtime::init(&library).unwrap();
    let bundle = bundle();
    let model = bundle.read("vision.onnx").unwrap();
    let load = |provider| {
        Session::load(
            &runtime,
            &model,
            SessionOptions {
                threads: 1,
                provider,
                ..SessionOptions::default()
            },
        )
    };
    // The pinned library is the one without CUDA.
    assert!(matches!(
        load(ExecutionProvider::Cuda),
        Err(OnnxError::Cuda(_))
    ));
    assert_eq!(
        load(ExecutionProvider::Auto).unwrap().running().name(),
        "cpu"
    );
}
