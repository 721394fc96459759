//! Who may ask this CA, and for whom: holders of a join token for everybody, or agents of a cluster for the pods of their node.

use std::sync::Arc;

use tonic::Status;

use super::{cluster::ClusterGate, tokens::TokenFile};
use crate::snapshot::spiffe::SpiffeId;

/// Somebody who may ask.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    /// For the log and the limit of requests.
    pub(crate) name: String,
    /// The node whose pods it may ask for; all where there is none.
    pub(crate) node: Option<String>,
}

/// The two ways in.
pub(crate) enum Gate {
    /// Without a cluster: whoever has a token may ask for any identity of the trust domain.
    JoinTokens(TokenFile),
    /// In a cluster: the API server knows.
    Cluster(Arc<ClusterGate>),
}

impl Gate {
    /// Who holds `token`.
    pub(crate) async fn admit(&self, token: &str) -> Result<Asker, Status> {
        match self {
            Self::JoinTokens(tokens) => holder(tokens, token),
            Self::Cluster(gate) => gate.admit(token).await,
        }
    }

    /// Whether `asker` may have a certificate of `id`.
    pub(crate) async fn allows(&self, asker: &Asker, id: &SpiffeId) -> Result<(), Status> {
        match (self, &asker.node) {
            (Self::Cluster(gate), Some(node)) => gate.allows(node, id).await,
            (Self::Cluster(_), None) => Err(Status::permission_denied("the token names no node")),
            (Self::JoinTokens(_), _) => Ok(()),
        }
    }
}

fn holder(tokens: &TokenFile, token: &str) -> Result<Asker, Status> {
    let holder = tokens.holder(token).map_err(|error| {
        tracing::error!(%error, "nobody can join");
        Status::unavailable("the CA cannot read its token file; its log says why")
    })?;
    let name = holder.ok_or_else(|| {
        Status::unauthenticated("unknown join token: it must be a line of the CA's token file")
    })?;
    Ok(Asker { name, node: None })
}
