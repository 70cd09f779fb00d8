//! The reference bundle in ONNX Runtime: the same answers as PyTorch, and the same answers whoever
//! else is in the batch and however many tokens a call verifies.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};

use cloister_onnx::{
    Bundle, ExecutionProvider, OnnxError, Runtime, Session, SessionOptions, TrustedHashes,
    library_path,
};
use cloister_proto::v1;
use cloister_server::engine::{
    Context, DecodeOptions, Decoded, Encoded, Graphs, Input, ReportSpec, TextLayout, run,
};
use serde::Deserialize;

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
    parity: Parity,
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// The bundle, or nothing (with the reason on standard output) where `make setup` has not run.
fn reference() -> Reference {
    let library = library_path().expect("the pinned library; run `make setup`");
    let trust = TrustedHashes::compiled_in().unwrap();
    let bundle = Bundle::load(&models().join("cxr-report-ref"), &trust).unwrap();
    let spec = ReportSpec::of(&bundle).unwrap();
    let runtime = Runtime::init(&library).unwrap();
    let graphs = Graphs::load(&runtime, &bundle, SessionOptions::default(), &spec).unwrap();
    let tokenizer = bundle.read(&spec.text.tokenizer).unwrap();
    let prefix = String::from_utf8(bundle.read(&spec.text.prefix).unwrap()).unwrap();
    let layout = TextLayout::new(&tokenizer, &prefix, spec.text.clone(), spec.decode).unwrap();
    let parity = serde_json::from_slice(&bundle.read("parity.json").unwrap()).unwrap();
    Reference {
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

    fn decode(
        &mut self,
        requests: Vec<(Encoded, Vec<u32>)>,
        tokens_per_step: usize,
    ) -> Vec<Decoded> {
        run(
            &mut self.graphs,
            self.spec.decode,
            requests,
            DecodeOptions { tokens_per_step },
        )
        .unwrap()
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
        let decoded = reference.decode(vec![(encoded, Vec::new())], 1).remove(0);
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
    let requests: Vec<Encoded> = (0..8)
        .map(|index: usize| {
            // 1 to 4 films, short and long queries: no two rows are alike.
            let films: Vec<i64> = (0..=(index % 4) as i64)
                .map(|film| film + index as i64)
                .collect();
            reference.encode(&films, queries[index % 4], contexts[index % 2])
        })
        .collect();
    let alone: Vec<Decoded> = requests
        .iter()
        .map(|request| {
            reference
                .decode(vec![(request.clone(), Vec::new())], 1)
                .remove(0)
        })
        .collect();
    let together = reference.decode(
        requests.iter().map(|r| (r.clone(), Vec::new())).collect(),
        1,
    );
    let mut worst = 0.0_f32;
    let mut compare = |name: &str, others: &[Decoded]| {
        for (one, other) in alone.iter().zip(others) {
            assert_eq!(ids(one), ids(other), "{name}");
            for (a, b) in one.tokens.iter().zip(&other.tokens) {
                worst = worst.max((a.log_probability - b.log_probability).abs());
            }
        }
    };
    compare("batch of 8", &together);
    // Guesses that are right, wrong every third time, and absent.
    let right = |decoded: &Decoded| ids(decoded);
    let wrong = |decoded: &Decoded| {
        ids(decoded)
            .iter()
            .enumerate()
            .map(|(at, &id)| if at % 3 == 2 { id ^ 1 } else { id })
            .collect()
    };
    for (name, guess) in [
        ("right guesses", &right as &dyn Fn(&Decoded) -> Vec<u32>),
        ("wrong guesses", &wrong),
        ("no guesses", &|_| Vec::new()),
    ] {
        let guessed = |index: usize| (requests[index].clone(), guess(&alone[index]));
        let single: Vec<Decoded> = (0..8)
            .map(|index| reference.decode(vec![guessed(index)], 3).remove(0))
            .collect();
        compare(&format!("n = 3, {name}"), &single);
        let batch = reference.decode((0..8).map(guessed).collect(), 3);
        compare(&format!("n = 3 in a batch of 8, {name}"), &batch);
    }
    println!("largest difference of a token's log-probability: {worst:e}");
    assert!(worst < 1e-3);
}

#[test]
fn cuda_that_is_not_usable_is_an_error_and_auto_says_that_the_processor_runs() {
    let library = library_path().expect("the pinned library; run `make setup`");
    let runtime = Runtime::init(&library).unwrap();
    let trust = TrustedHashes::compiled_in().unwrap();
    let bundle = Bundle::load(&models().join("cxr-report-ref"), &trust).unwrap();
    let model = bundle.read("vision.onnx").unwrap();
    let load = |provider| {
        Session::load(
            &runtime,
            &model,
            SessionOptions {
                threads: 1,
                provider,
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
