//! The admin port: `/metrics`, `/healthz`, `/readyz`. Nothing of a request, report or policy is
//! reachable through it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics_exporter_prometheus::PrometheusHandle;

use crate::shutdown::Shutdown;

/// Whether the process serves. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Not ready yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the process serves.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether the process serves.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Binds `addr` and serves in a task of its own until `shutdown`. Answers with the bound address.
pub async fn serve(
    _addr: SocketAddr,
    _ready: Ready,
    _handle: PrometheusHandle,
    _shutdown: Shutdown,
) -> io::Result<SocketAddr> {
    todo!()
}
