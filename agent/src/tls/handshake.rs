//! Shakes hands as client or server and says who the peer is. Deadlines are the caller's.
//!
//! The peer's identity is checked again after every handshake: in a resumed one rustls does not call the verifiers, and the
//! certificate that the session began with may have ended since.

use std::{io, net::IpAddr, sync::Arc};

use rustls::{CommonState, HandshakeKind, client::ClientSessionStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{certificate::Facts, error::TlsError, identity::TlsIdentity, server_name, verify::member};
use crate::snapshot::spiffe::SpiffeId;

/// Bytes of plaintext, and of records, that a connection holds for a peer that does not read.
pub const BUFFER_LIMIT: usize = 256 * 1024;
/// rustls keeps at most eight tickets for a name.
const TICKETS_PER_NAME: usize = 8;

/// Connects as `identity` to the workload `expected` at `peer`.
///
/// `io` is the connected socket. A server that refuses our certificate says so only after this returned, on the first read
/// ([`TlsError::of_client`] reads that error too).
pub async fn connect<IO>(
    identity: &TlsIdentity,
    expected: &SpiffeId,
    peer: IpAddr,
    io: IO,
) -> Result<client::TlsStream<IO>, TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let name = server_name::encode(expected, peer)
        .ok_or_else(|| TlsError::Io(io::Error::other("the peer's name could not be encoded")))?;
    let stream = TlsConnector::from(identity.client.clone())
        .connect_with(name.clone(), io, |connection| connection.set_buffer_limit(Some(BUFFER_LIMIT)))
        .await
        .map_err(|error| TlsError::of_client(error, expected))?;
    let checked = check_server(identity, stream.get_ref().1, expected);
    if checked.is_err() {
        forget(identity, &name);
    }
    checked.map(|()| stream)
}

/// Accepts a client of our trust domain and says who it is.
pub async fn accept<IO>(identity: &TlsIdentity, io: IO) -> Result<(server::TlsStream<IO>, SpiffeId), TlsError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let own = identity.id.trust_domain();
    let stream = TlsAcceptor::from(Arc::clone(&identity.server))
        .accept_with(io, |connection| connection.set_buffer_limit(Some(BUFFER_LIMIT)))
        .await
        .map_err(|error| TlsError::of_server(error, own))?;
    let facts = peer_facts(identity, stream.get_ref().1)?;
    let peer = member(&facts, own).map_err(|reason| TlsError::not_allowed(&reason, own))?;
    Ok((stream, peer))
}

fn check_server(identity: &TlsIdentity, state: &CommonState, expected: &SpiffeId) -> Result<(), TlsError> {
    let facts = peer_facts(identity, state)?;
    match facts.uris.iter().any(|uri| uri == expected.as_str()) {
        true => Ok(()),
        false => Err(TlsError::WrongIdentity { expected: expected.clone(), presented: facts.uris }),
    }
}

/// Reads the peer's leaf; one that ended since a resumed session began is refused.
fn peer_facts(identity: &TlsIdentity, state: &CommonState) -> Result<Facts, TlsError> {
    let leaf = state.peer_certificates().and_then(<[_]>::first).ok_or(TlsError::NoCertificate)?;
    let facts = Facts::read(leaf).map_err(|error| TlsError::Io(io::Error::other(error)))?;
    let resumed = state.handshake_kind() == Some(HandshakeKind::Resumed);
    if resumed && identity.clock.date() > facts.not_after {
        return Err(TlsError::Expired(format!("it ended at {}, the session was resumed", facts.not_after)));
    }
    Ok(facts)
}

/// Drops the tickets of a session that is no longer allowed, so that the next handshake is a full one.
fn forget(identity: &TlsIdentity, name: &ServerName<'static>) {
    for _ in 0..TICKETS_PER_NAME {
        if identity.sessions.take_tls13_ticket(name).is_none() {
            break;
        }
    }
}
