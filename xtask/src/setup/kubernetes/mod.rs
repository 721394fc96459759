//! Brings what the Kubernetes ring runs against: the API server of `tests/apiserver`, built with Go, kubectl, and the Gateway
//! API's CRDs. The build needs none of it.

mod apiserver;
mod gateway_api;
mod go;
mod kubectl;

use crate::workspace;

/// Why a part is not there; each says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubernetesError {
    #[error("Go: {0}")]
    Go(#[from] go::GoError),
    #[error("the API server of the tests: {0}")]
    ApiServer(#[from] apiserver::ApiServerError),
    #[error("kubectl: {0}")]
    Kubectl(#[from] kubectl::KubectlError),
    #[error("the Gateway API's CRDs: {0}")]
    GatewayApi(#[from] gateway_api::GatewayApiError),
}

/// Brings all of it unless it is there. The lock of the tools folder keeps a second set-up out meanwhile.
pub(crate) fn bring() -> Result<(), KubernetesError> {
    let tools = workspace::tools();
    let fail = |error: super::SetupError| go::GoError::Folder(error.to_string());
    let _only_one = super::lock(&tools).map_err(fail)?;
    let go = go::Go::find(&tools)?;
    apiserver::bring(&go, &tools)?;
    gateway_api::bring(&go, &tools)?;
    kubectl::bring(&tools)?;
    Ok(())
}
