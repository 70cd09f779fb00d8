//! One graph, ready to run. `run` takes `&mut self`: one session per worker.

use ort::ep;
use ort::session::builder::GraphOptimizationLevel;

use crate::error::OnnxError;
use crate::runtime::Runtime;

/// Where a graph is asked to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExecutionProvider {
    /// The processor.
    #[default]
    Cpu,
    /// The first NVIDIA GPU; the start fails when CUDA is not usable.
    Cuda,
    /// CUDA where it is usable, else the processor, which is logged and exported.
    Auto,
}

impl std::str::FromStr for ExecutionProvider {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "auto" => Ok(Self::Auto),
            _ => Err("cpu, cuda or auto"),
        }
    }
}

/// Where a graph really runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// The processor.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
}

impl Running {
    /// "cpu" or "cuda".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// How a session is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads inside one operator. One by default: results and timings stay predictable on
    /// shared cores, and rooms get their parallelism from workers.
    pub threads: usize,
    /// Where the graph shall run.
    pub provider: ExecutionProvider,
    /// Whether memory of a run is kept for the next. Faster where every run has the same shape;
    /// where shapes differ, what is kept grows with each new one.
    pub keep_memory: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            provider: ExecutionProvider::Cpu,
            keep_memory: true,
        }
    }
}

/// A float tensor with its shape, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Dimensions.
    pub shape: Vec<usize>,
    /// Values.
    pub data: Vec<f32>,
}

/// One graph, ready to run.
#[derive(Debug)]
pub struct Session {
    inner: ort::session::Session,
    running: Running,
}

impl Session {
    /// Loads the graph in `model` (take it from [`crate::Bundle::read`], which verifies it).
    ///
    /// # Errors
    /// [`OnnxError::Cuda`] when CUDA was asked for and is not usable, [`OnnxError::Load`] else.
    pub fn load(
        runtime: &Runtime,
        model: &[u8],
        options: SessionOptions,
    ) -> Result<Self, OnnxError> {
        let (inner, running) = match options.provider {
            ExecutionProvider::Cpu => (build(runtime, model, options, false)?, Running::Cpu),
            ExecutionProvider::Cuda => (build(runtime, model, options, true)?, Running::Cuda),
            ExecutionProvider::Auto => match build(runtime, model, options, true) {
                Ok(session) => (session, Running::Cuda),
                Err(error) => {
                    tracing::warn!(%error, "CUDA is not usable, the graph runs on the processor.");
                    (build(runtime, model, options, false)?, Running::Cpu)
                }
            },
        };
        Ok(Self { inner, running })
    }

    /// Where the graph really runs.
    pub const fn running(&self) -> Running {
        self.running
    }

    /// Names of the inputs, in the graph's order.
    pub fn input_names(&self) -> Vec<String> {
        self.inner
            .inputs()
            .iter()
            .map(|input| input.name().to_owned())
            .collect()
    }

    /// Names of the outputs, in the graph's order.
    pub fn output_names(&self) -> Vec<String> {
        self.inner
            .outputs()
            .iter()
            .map(|output| output.name().to_owned())
            .collect()
    }

    /// Runs a graph with one float input and answers with its first output.
    ///
    /// # Errors
    /// [`OnnxError::Run`], or [`OnnxError::Output`] when the output is no float tensor.
    pub fn run_single(&mut self, shape: &[usize], data: Vec<f32>) -> Result<Tensor, OnnxError> {
        let failed = |error: ort::Error| OnnxError::Run(error.to_string());
        let input = ort::value::Tensor::from_array((shape.to_vec(), data)).map_err(failed)?;
        let outputs = self.inner.run(ort::inputs![input]).map_err(failed)?;
        let first = outputs
            .values()
            .next()
            .ok_or_else(|| OnnxError::Output("0".to_owned()))?;
        let (shape, data) = first
            .try_extract_tensor::<f32>()
            .map_err(|_| OnnxError::Output("0".to_owned()))?;
        let shape = shape
            .iter()
            .map(|&dimension| usize::try_from(dimension).unwrap_or(0))
            .collect();
        Ok(Tensor {
            shape,
            data: data.to_vec(),
        })
    }

    /// The `ort` session, to look at.
    pub const fn inner(&self) -> &ort::session::Session {
        &self.inner
    }

    /// The `ort` session, for callers that bind inputs and outputs themselves.
    pub const fn inner_mut(&mut self) -> &mut ort::session::Session {
        &mut self.inner
    }
}

fn build(
    runtime: &Runtime,
    model: &[u8],
    options: SessionOptions,
    cuda: bool,
) -> Result<ort::session::Session, OnnxError> {
    let load = |error: String| OnnxError::Load(error);
    let mut builder = ort::session::Session::builder(runtime.environment())
        .map_err(|error| load(error.to_string()))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|error| load(error.to_string()))?
        .with_intra_threads(options.threads.max(1))
        .map_err(|error| load(error.to_string()))?
        .with_inter_threads(1)
        .map_err(|error| load(error.to_string()))?
        // Spinning threads make two-thread runs several times slower on shared cores.
        .with_intra_op_spinning(false)
        .map_err(|error| load(error.to_string()))?
        .with_inter_op_spinning(false)
        .map_err(|error| load(error.to_string()))?;
    if !options.keep_memory {
        builder = builder
            .with_memory_pattern(false)
            .map_err(|error| load(error.to_string()))?
            .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])
            .map_err(|error| load(error.to_string()))?;
    }
    if cuda {
        // ort's default is a silent fallback to the processor.
        let provider = ep::CUDA::default()
            .with_device_id(0)
            .build()
            .error_on_failure();
        builder = builder
            .with_execution_providers([provider])
            .map_err(|error| OnnxError::Cuda(error.to_string()))?;
    }
    builder.commit_from_memory(model).map_err(|error| {
        let reason = error.to_string();
        if cuda {
            OnnxError::Cuda(reason)
        } else {
            load(reason)
        }
    })
}
