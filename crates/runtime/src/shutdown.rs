//! How a process is told to stop.

use tokio_util::sync::CancellationToken;

/// One signal that every task of a process waits on. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A signal that only [`Shutdown::trigger`] raises.
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal that SIGTERM and SIGINT raise. Call inside a Tokio runtime.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let raised = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = raised.cancelled() => {}
            }
            raised.trigger();
        });
        Ok(shutdown)
    }

    /// Waits until the process has to stop.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Whether the process has to stop.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Tells every task to stop.
    pub fn trigger(&self) {
        self.0.cancel();
    }
}
