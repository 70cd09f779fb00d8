//! The gRPC services on the socket. Before them: the sidecar, the only peer. After them: `admit`.

mod report;
mod safeguard;

use std::sync::Arc;

use cloister_proto::v1::report_service_server::ReportServiceServer;
use cloister_proto::v1::safeguard_service_server::SafeguardServiceServer;
use cloister_proto::{FILE_DESCRIPTOR_SET, MAX_MESSAGE_BYTES};
use cloister_runtime::Shutdown;
use cloister_seal::VerifyingKey;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use crate::admit::Limits;
use crate::pipeline::Pipeline;

pub(crate) use report::Reports;
pub(crate) use safeguard::Safeguard;

/// What the services share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) pipeline: Pipeline,
    pub(crate) gateway_keys: Vec<VerifyingKey>,
    pub(crate) limits: Limits,
    pub(crate) inspect: bool,
    pub(crate) shutdown: Shutdown,
}

/// Every service of the socket, and the reporter that says whether they serve.
pub(crate) async fn routes(
    shared: Arc<Shared>,
    reflection: bool,
) -> anyhow::Result<(Routes, HealthReporter)> {
    let reports = ReportServiceServer::new(Reports(Arc::clone(&shared)))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let safeguard =
        SafeguardServiceServer::new(Safeguard(shared)).max_decoding_message_size(1 << 20);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ReportServiceServer<Reports>>().await;
    reporter
        .set_serving::<SafeguardServiceServer<Safeguard>>()
        .await;
    let mut routes = Routes::builder();
    routes
        .add_service(reports)
        .add_service(safeguard)
        .add_service(health);
    if reflection {
        let service = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        routes.add_service(service().build_v1()?);
        // Older grpcurl knows only this one.
        routes.add_service(service().build_v1alpha()?);
    }
    Ok((routes.routes(), reporter))
}

/// Says that nothing serves any more, before the sockets close.
pub(crate) async fn stop_serving(reporter: &HealthReporter) {
    reporter
        .set_not_serving::<ReportServiceServer<Reports>>()
        .await;
    reporter
        .set_not_serving::<SafeguardServiceServer<Safeguard>>()
        .await;
    reporter
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
}
