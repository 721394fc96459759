//! Which version of HTTP an attempt speaks to its endpoint. Pure.
//!
//! | the backend's port | what is spoken |
//! |---|---|
//! | declared `kubernetes.io/h2c`, `http2` or `grpc` | HTTP/2 |
//! | others, gRPC of an HTTP/2 client | HTTP/2: nothing else carries its trailers |
//! | others, a request that asks for an upgrade | HTTP/1.1: only there it exists |
//! | declared `http` | HTTP/1.1; HTTP/2 for a client that speaks it where the server may |
//! | undeclared, learnt | what was learnt |
//! | undeclared, nothing learnt | what the client speaks, which it does with the server's leave |
//! | declared `tcp` or `tls`, reached by a route | HTTP/1.1 |

use http::Method;

use crate::snapshot::{Protocol, protocol::ServerSpeaks};

/// What an attempt speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2 {
        /// Nothing else will do. Otherwise a server that turns out to speak something else is spoken to in HTTP/1.1.
        only: bool,
    },
}

/// What counts of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Its client speaks HTTP/2.
    pub http2: bool,
    /// It is gRPC.
    pub grpc: bool,
    /// It goes to the port that the client connected to; a route may send it elsewhere.
    pub direct: bool,
}

/// Chooses for a request to a port. `upgrade` asks for another protocol on the same connection; CONNECT does not.
pub(super) fn choose(
    port: Protocol,
    learnt: Option<ServerSpeaks>,
    asked: Asked,
    method: &Method,
    upgrade: bool,
) -> Version {
    const MAYBE: Version = Version::Http2 { only: false };
    const ONLY: Version = Version::Http2 { only: true };
    if port.is_http2() || (asked.grpc && asked.http2) {
        return ONLY;
    }
    if upgrade && method != Method::CONNECT {
        return Version::Http1;
    }
    match (port, learnt) {
        (Protocol::Tcp | Protocol::Tls, _) | (_, Some(ServerSpeaks::Http1)) => Version::Http1,
        (Protocol::Http, learnt) if asked.http2 && (asked.direct || learnt.is_some()) => MAYBE,
        (Protocol::Detect, Some(ServerSpeaks::Http2)) => MAYBE,
        (Protocol::Detect, None) if asked.http2 => MAYBE,
        _ => Version::Http1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_the_lesson_and_the_client_decide() {
        use Protocol::{Detect, Grpc, Http, Http2, Tcp, Tls};
        use ServerSpeaks::{Http1 as Old, Http2 as New};
        let http1 = Asked { direct: true, ..Asked::default() };
        let http2 = Asked { http2: true, ..http1 };
        let routed = Asked { direct: false, ..http2 };
        let grpc = Asked { grpc: true, ..http2 };
        let (one, maybe, only) =
            (Version::Http1, Version::Http2 { only: false }, Version::Http2 { only: true });
        let table = [
            (Http2, None, http1, only),
            (Http2, Some(Old), http1, only),
            (Grpc, None, http1, only),
            (Grpc, None, routed, only),
            (Http, None, http1, one),
            (Http, Some(New), http1, one),
            (Http, None, http2, maybe),
            (Http, None, routed, one),
            (Http, Some(New), routed, maybe),
            (Http, Some(Old), http2, one),
            (Http, Some(Old), grpc, only),
            (Detect, None, http1, one),
            (Detect, Some(New), http1, maybe),
            (Detect, Some(Old), http2, one),
            (Detect, None, http2, maybe),
            (Detect, None, routed, maybe),
            (Detect, None, grpc, only),
            // A client of HTTP/1.1 cannot mean gRPC, whatever its content type says.
            (Detect, None, Asked { grpc: true, ..http1 }, one),
            (Tcp, None, http2, one),
            (Tls, Some(New), http2, one),
            (Tcp, None, grpc, only),
        ];
        for (port, learnt, asked, version) in table {
            assert_eq!(
                choose(port, learnt, asked, &Method::GET, false),
                version,
                "{port:?} {learnt:?} {asked:?}"
            );
        }
    }

    #[test]
    fn an_upgrade_takes_http1_where_the_port_may_speak_it() {
        let asked = Asked { http2: true, grpc: false, direct: true };
        let choice = |port, method| choose(port, Some(ServerSpeaks::Http2), asked, method, true);
        assert_eq!(choice(Protocol::Detect, &Method::GET), Version::Http1);
        assert_eq!(choice(Protocol::Http, &Method::GET), Version::Http1);
        assert_eq!(choice(Protocol::Http2, &Method::GET), Version::Http2 { only: true });
        assert_eq!(choice(Protocol::Detect, &Method::CONNECT), Version::Http2 { only: false });
        assert_eq!(choice(Protocol::Http2, &Method::CONNECT), Version::Http2 { only: true });
    }
}
