//! How fast the engine is: forward pass, read-out, sweep and generation, beside the machine's own rate of matrix
//! products. `just bench`, or with another model `ROTE_BENCH_MODEL=folder just bench`. Medians of runs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use rote_artifact::tables::Request;
use rote_engine::{Room, Sweep, load_subject};
use rote_model::{Model, NoTap, Row, Spec, State, Workspace};
use rote_plan::{BlockChange, Intervention, unfold};

const ROWS: usize = 64;
const PREFIX: usize = 50;
const SUFFIX: usize = 50;
const RUNS: usize = 5;

/// Median of seconds.
fn median(mut work: impl FnMut()) -> f64 {
    work();
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[RUNS / 2]
}

/// Operations per second of the largest matrix product of this model's blocks, all threads.
fn product_rate(spec: &Spec) -> f64 {
    let (m, n, k) = (ROWS * (PREFIX + SUFFIX), spec.d_mlp, spec.d_model);
    let (x, w, mut y) = (vec![0.5f32; m * k], vec![0.25f32; n * k], vec![0f32; m * n]);
    let seconds = median(|| {
        // SAFETY: the three buffers have the sizes that the shapes and strides say.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                y.as_mut_ptr(),
                1,
                n as isize,
                false,
                x.as_ptr(),
                1,
                k as isize,
                w.as_ptr(),
                k as isize,
                1,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
    });
    2.0 * (m * n * k) as f64 / seconds
}

fn forward(
    model: &Model<f32>,
    tokens: &[Vec<u32>],
    change: &[BlockChange],
    work: &mut Workspace<f32>,
) -> Vec<f32> {
    let rows: Vec<_> = tokens.iter().map(|tokens| (&tokens[..], 0)).collect();
    let mut x = model.embed(&rows).expect("tokens fit the model");
    let mut states: Vec<_> = tokens.iter().map(|row| State::new(&model.spec, row.len(), false)).collect();
    let mut rows: Vec<_> = states
        .iter_mut()
        .zip(tokens)
        .map(|(state, tokens)| Row::new(state, tokens.len(), change, None))
        .collect();
    model.run(0..model.spec.n_blocks, &mut x, &mut rows, work, &mut NoTap).expect("a pass");
    x
}

/// Random sequences: nothing is recited, so everything has to be generated.
fn requests(vocab: usize) -> Vec<Request> {
    let mut state = 1u64;
    let mut token = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % vocab as u32
    };
    (0..ROWS)
        .map(|row| Request {
            request: row as u32,
            context: (0..PREFIX).map(|_| token()).collect(),
            continuation: (0..SUFFIX).map(|_| token()).collect(),
            ..Request::default()
        })
        .collect()
}

#[expect(clippy::print_stdout, reason = "what a bench is for")]
fn main() {
    // Cargo starts a bench in its crate; a name is meant from the workspace.
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let model = std::env::var_os("ROTE_BENCH_MODEL").map_or("data/demo/gpt_neox".into(), PathBuf::from);
    let folder = workspace.join(model);
    let (loaded, _) = load_subject::<f32>(&folder).expect("a model folder");
    let model = &loaded.model;
    let spec = &model.spec;
    let requests = requests(spec.vocab);
    let tokens: Vec<Vec<u32>> =
        requests.iter().map(|request| [&request.context[..], &request.continuation].concat()).collect();
    let count = (ROWS * (PREFIX + SUFFIX)) as f64;
    let threads = rayon::current_num_threads();
    println!("{}, {ROWS} sequences of {PREFIX} + {SUFFIX} tokens, {threads} threads", folder.display());

    let rate = product_rate(spec);
    println!("matrix product   {:8.1} GFLOP/s", rate / 1e9);

    let mut work = Workspace::default();
    let none = vec![BlockChange::default(); spec.n_blocks];
    let all: Intervention = "attn.identity@all".parse().expect("an intervention");
    let all = all.resolve(spec.n_blocks, spec.n_heads).expect("every block");
    let seconds = median(|| drop(forward(model, &tokens, &none, &mut work)));
    let (d, q, kv) = (spec.d_model, spec.d_query(), spec.d_kv());
    let gates = if matches!(spec.mlp, rote_model::MlpKind::Gated(_)) { 3 } else { 2 };
    let weights = (d * (q + 2 * kv) + q * d + gates * d * spec.d_mlp) * spec.n_blocks;
    let products = 2.0 * weights as f64 * count / rate;
    println!(
        "forward          {:8.0} tokens/s, {:.0} % of it what its matrix products take at that rate",
        count / seconds,
        100.0 * products / seconds
    );
    let bypassed = median(|| drop(forward(model, &tokens, &all, &mut work)));
    println!("  all bypassed   {:8.0} tokens/s", count / bypassed);

    let x = forward(model, &tokens, &none, &mut work);
    let normed = model.final_norm(&x);
    let targets: Vec<u32> = tokens.concat();
    let seconds_read = median(|| drop(model.readout(&normed, &targets)));
    println!("readout          {:8.0} tokens/s", count / seconds_read);

    let changes = unfold(&["attn.identity@each".to_string()], spec.n_blocks).expect("interventions");
    let sweep = |changes: &[Intervention], generate: bool| {
        let sweep = Sweep::new(model, changes, None, generate, Room::PLENTY).expect("a sweep");
        median(|| sweep.run(&requests, &mut |_, _| Ok(())).expect("answers"))
    };
    let base = sweep(&changes[..1], false);
    let scoring = sweep(&changes, false);
    // Every pass reads out as many states; only blocks are saved by restarting.
    let head = seconds_read * (ROWS * SUFFIX) as f64 / count;
    let blocks = (scoring - head * changes.len() as f64) / (base - head);
    println!("baseline scored  {base:8.3} s, {head:.3} of it the head");
    println!(
        "sweep scored     {scoring:8.3} s, {:.2} baselines, {blocks:.2} without the head",
        scoring / base
    );
    let generated = sweep(&changes, true);
    let decoded = (ROWS * SUFFIX * changes.len()) as f64;
    println!("sweep generated  {generated:8.3} s, {:.0} tokens/s decoded", decoded / (generated - scoring));
}
