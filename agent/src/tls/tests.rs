//! Handshakes over real loopback sockets: who may speak to whom, what is resumed, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rcgen::ExtendedKeyUsagePurpose as Purpose;
use rustls::{HandshakeKind, NamedGroup, crypto::aws_lc_rs::kx_group};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{client, server};

use super::{
    Bundle, Clock, TlsError, TlsIdentity, accept, connect,
    test_authority::{Leaf, TestAuthority, shop},
};
use crate::snapshot::spiffe::SpiffeId;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

type Client = Result<client::TlsStream<TcpStream>, TlsError>;
type Server = Result<(server::TlsStream<TcpStream>, SpiffeId), TlsError>;

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let dial = TcpStream::connect(listener.local_addr().unwrap());
    let (dialled, accepted) = tokio::join!(dial, listener.accept());
    (dialled.unwrap(), accepted.unwrap().0)
}

/// One handshake; a client that got through reads once, so that tickets and refusals arrive.
async fn shake(client: &TlsIdentity, server: &TlsIdentity, expected: &SpiffeId) -> (Client, Server) {
    let (near, far) = sockets().await;
    let dial = async {
        let mut stream = connect(client, expected, LOOPBACK, near).await?;
        match stream.read_u8().await {
            Ok(byte) => assert_eq!(byte, 7),
            Err(error) => return Err(TlsError::of_client(error, expected)),
        }
        Ok(stream)
    };
    let serve = async {
        let (mut stream, peer) = accept(server, far).await?;
        stream.write_u8(7).await.map_err(TlsError::Io)?;
        stream.flush().await.map_err(TlsError::Io)?;
        Ok((stream, peer))
    };
    tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(dial, serve) }).await.unwrap()
}

fn manual_clock() -> (Clock, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(Clock::system().since_epoch().as_secs()));
    let read = seconds.clone();
    (Clock::new(move || Duration::from_secs(read.load(Ordering::Relaxed))), seconds)
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let authority = TestAuthority::new();
    let (web, cart) = (authority.identity(&shop("web")), authority.identity(&shop("cart")));
    let (client, server) = shake(&web, &cart, &cart.id).await;
    let (server, peer) = server.unwrap();
    assert_eq!(peer, web.id);
    let client = client.unwrap();
    let state = client.get_ref().1;
    assert_eq!(state.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    assert_eq!(state.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(server.get_ref().1.server_name(), None, "no SNI");
}

#[tokio::test]
async fn a_classical_peer_is_served() {
    let authority = TestAuthority::new();
    let (mut web, cart) = (authority.identity(&shop("web")), authority.identity(&shop("cart")));
    for group in [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1] {
        let mut provider = (*super::provider()).clone();
        provider.kx_groups = vec![group];
        let mut config = (*web.client).clone();
        config = rebuild_with(&config, provider, &authority.bundle(), &web);
        web.client = Arc::new(config);
        let (client, server) = shake(&web, &cart, &cart.id).await;
        assert_eq!(server.unwrap().1, web.id);
        let client = client.unwrap();
        assert_eq!(client.get_ref().1.negotiated_key_exchange_group().unwrap().name(), group.name());
    }
}

fn rebuild_with(
    old: &rustls::ClientConfig,
    provider: rustls::crypto::CryptoProvider,
    bundle: &Bundle,
    identity: &TlsIdentity,
) -> rustls::ClientConfig {
    let verifier = super::verify::ServerVerifier::new(bundle, &provider);
    let mut config =
        rustls::ClientConfig::builder_with_details(Arc::new(provider), Arc::new(identity.clock.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(old.client_auth_cert_resolver.clone());
    config.enable_sni = false;
    config.alpn_protocols.clone_from(&old.alpn_protocols);
    config
}

#[tokio::test]
async fn an_impostor_is_refused_by_the_client() {
    let authority = TestAuthority::new();
    let (web, thief) = (authority.identity(&shop("web")), authority.identity(&shop("thief")));
    let (client, server) = shake(&web, &thief, &shop("cart")).await;
    let error = client.unwrap_err();
    assert_eq!(error.response_flag(), "IDENTITY_ERROR");
    match error {
        TlsError::WrongIdentity { expected, presented } => {
            assert_eq!(expected, shop("cart"));
            assert_eq!(presented, [shop("thief").to_string()]);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(server, Err(TlsError::RefusedByPeer(_))), "{server:?}");
}

#[tokio::test]
async fn another_trust_domain_is_refused_by_the_server() {
    let authority = TestAuthority::new();
    let stranger: SpiffeId = SpiffeId::new("elsewhere.org", "shop", "web");
    let (web, cart) = (authority.identity(&stranger), authority.identity(&shop("cart")));
    let (client, server) = shake(&web, &cart, &cart.id).await;
    match server.unwrap_err() {
        TlsError::WrongTrustDomain { own, presented } => {
            assert_eq!((own.as_str(), presented), ("cluster.local", stranger))
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(client, Err(TlsError::RefusedByPeer(_) | TlsError::Io(_))), "{client:?}");
}

type Fits = fn(&TlsError) -> bool;

#[tokio::test]
async fn bad_client_certificates_are_refused_by_the_server() {
    let authority = TestAuthority::new();
    let cart = authority.identity(&shop("cart"));
    let good = Leaf::new(shop("web").as_str(), &authority.clock);
    let hour = time::Duration::hours(1);
    let table: [(Leaf, Fits); 3] = [
        (Leaf { not_after: good.not_before + time::Duration::seconds(1), ..good.clone() }, |e| {
            matches!(e, TlsError::Expired(_))
        }),
        (
            Leaf { not_before: good.not_before + hour, not_after: good.not_after + hour, ..good.clone() },
            |e| matches!(e, TlsError::Expired(_)),
        ),
        (Leaf { purposes: vec![Purpose::ServerAuth], ..good.clone() }, |e| {
            matches!(e, TlsError::Handshake(_))
        }),
    ];
    for (leaf, fits) in table {
        let web = authority.identity_of(&leaf, &authority.bundle());
        let error = shake(&web, &cart, &cart.id).await.1.unwrap_err();
        assert!(fits(&error), "{error:?}");
    }
    let other = TestAuthority::new();
    let web = other.identity_of(&good, &authority.bundle());
    let error = shake(&web, &cart, &cart.id).await.1.unwrap_err();
    assert!(matches!(error, TlsError::UnknownIssuer), "{error:?}");
}

#[tokio::test]
async fn bad_server_certificates_are_refused_by_the_client() {
    let authority = TestAuthority::new();
    let web = authority.identity(&shop("web"));
    let good = Leaf::new(shop("cart").as_str(), &authority.clock);
    let expired = Leaf { not_after: good.not_before + time::Duration::seconds(1), ..good.clone() };
    let client_only = Leaf { purposes: vec![Purpose::ClientAuth], ..good.clone() };
    let cart = authority.identity_of(&expired, &authority.bundle());
    let error = shake(&web, &cart, &cart.id).await.0.unwrap_err();
    assert!(matches!(error, TlsError::Expired(_)), "{error:?}");
    let cart = authority.identity_of(&client_only, &authority.bundle());
    assert!(shake(&web, &cart, &cart.id).await.0.is_err());
    let cart = TestAuthority::new().identity_of(&good, &authority.bundle());
    let error = shake(&web, &cart, &cart.id).await.0.unwrap_err();
    assert!(matches!(error, TlsError::UnknownIssuer), "{error:?}");
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let authority = TestAuthority::new();
    let (mut web, cart) = (authority.identity(&shop("web")), authority.identity(&shop("cart")));
    let mut config = (*web.client).clone();
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    web.client = Arc::new(config);
    let error = shake(&web, &cart, &cart.id).await.1.unwrap_err();
    assert!(matches!(error, TlsError::NoCertificate), "{error:?}");
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A ClientHello of TLS 1.2, as a library without 1.3 sends it: no supported_versions.
fn client_hello_of_tls12() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([9; 32]);
    hello.push(0);
    hello.extend([0, 2, 0xc0, 0x2b, 1, 0]);
    let groups = [0, 10, 0, 4, 0, 2, 0, 23];
    let signatures = [0, 13, 0, 4, 0, 2, 4, 3];
    hello.extend([0, (groups.len() + signatures.len()) as u8]);
    hello.extend(groups.iter().chain(&signatures));
    let mut record = vec![22, 3, 1, 0, (hello.len() + 4) as u8, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    record
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let cart = TestAuthority::new().identity(&shop("cart"));
    let (mut near, far) = sockets().await;
    near.write_all(&client_hello_of_tls12()).await.unwrap();
    let error = accept(&cart, far).await.unwrap_err();
    assert!(matches!(error, TlsError::ProtocolVersion(_)), "{error:?}");
    let mut alert = [0; 7];
    near.read_exact(&mut alert).await.unwrap();
    assert_eq!((alert[0], alert[6]), (21, 70), "alert protocol_version");
}

#[tokio::test]
async fn plaintext_and_hang_ups_are_errors() {
    let cart = TestAuthority::new().identity(&shop("cart"));
    let (mut near, far) = sockets().await;
    near.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(matches!(accept(&cart, far).await, Err(TlsError::Handshake(_))));
    let (near, far) = sockets().await;
    drop(near);
    assert!(matches!(accept(&cart, far).await, Err(TlsError::Io(_))));
}

fn kind(client: &Client) -> Option<HandshakeKind> {
    client.as_ref().unwrap().get_ref().1.handshake_kind()
}

#[tokio::test]
async fn the_second_handshake_is_resumed_and_still_checked() {
    let (clock, seconds) = manual_clock();
    let authority = TestAuthority::with_clock(clock);
    let (web, cart) = (authority.identity(&shop("web")), authority.identity(&shop("cart")));
    let (client, server) = shake(&web, &cart, &cart.id).await;
    assert_eq!((kind(&client), server.unwrap().1), (Some(HandshakeKind::Full), web.id.clone()));
    let (client, server) = shake(&web, &cart, &cart.id).await;
    let (server, peer) = server.unwrap();
    assert_eq!((kind(&client), peer), (Some(HandshakeKind::Resumed), web.id.clone()));
    assert_eq!(server.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));

    // Another identity at the same address: no ticket of cart's is offered, and the impostor is refused.
    let thief = authority.identity(&shop("thief"));
    assert!(matches!(shake(&web, &cart, &thief.id).await.0, Err(TlsError::WrongIdentity { .. })));
    assert!(matches!(shake(&web, &thief, &cart.id).await.0, Err(TlsError::WrongIdentity { .. })));

    // The certificates end; a session that began before must not outlive them.
    shake(&web, &cart, &cart.id).await.0.unwrap();
    seconds.fetch_add(2 * 3600, Ordering::Relaxed);
    let (client, server) = shake(&web, &cart, &cart.id).await;
    assert!(matches!(server, Err(TlsError::Expired(_))), "{server:?}");
    assert!(client.is_err());
}

#[tokio::test]
async fn renewal_does_not_resume_what_an_old_certificate_began() {
    let authority = TestAuthority::new();
    let (web, cart) = (authority.identity(&shop("web")), authority.identity(&shop("cart")));
    shake(&web, &cart, &cart.id).await.0.unwrap();
    let renewed = authority.identity(&shop("cart"));
    assert_eq!(kind(&shake(&web, &renewed, &cart.id).await.0), Some(HandshakeKind::Full));
}

#[tokio::test]
async fn overlapping_roots_verify_old_and_new() {
    let (old, new) = (TestAuthority::new(), TestAuthority::new());
    let both = Bundle::new(vec![old.root.clone(), new.root.clone()]).unwrap();
    let leaf = |name: &str| Leaf::new(shop(name).as_str(), &old.clock);
    let (by_old, by_new) = (old.identity_of(&leaf("web"), &both), new.identity_of(&leaf("cart"), &both));
    assert!(shake(&by_old, &by_new, &by_new.id).await.0.is_ok());
    assert!(shake(&by_new, &by_old, &by_old.id).await.0.is_ok());
    let only_new = new.identity_of(&leaf("cart"), &new.bundle());
    assert!(matches!(shake(&by_old, &only_new, &only_new.id).await.1, Err(TlsError::UnknownIssuer)));
}
