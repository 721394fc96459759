//! Between a socket and a stream of a tunnel, at both of its ends: client, relay, tunnel, relay, server.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::{sync::mpsc, task::JoinHandle};

use super::*;
use crate::{
    path::relay::through_tunnel,
    tunnel::{
        Accepted, Authority, ConnectRequest, ConnectionId, Incoming, OpenError, Settings, Tunnel,
        reference::{self, ReferenceIncoming, ReferenceTunnel},
        stream::ReadAhead,
    },
};

/// A tunnel and what arrives at its other end.
struct Line {
    tunnel: ReferenceTunnel,
    incoming: mpsc::UnboundedReceiver<ReferenceIncoming>,
}

/// Client, server, the relays at the caller's and at the called side.
type Relayed = (TcpStream, TcpStream, JoinHandle<End>, JoinHandle<End>);

impl Line {
    async fn lay(settings: Settings) -> Self {
        let (client, server) = configurations();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, incoming) = mpsc::unbounded_channel();
        let settings = Rc::new(settings);
        let server_settings = Rc::clone(&settings);
        tokio::task::spawn_local(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(server);
            let stream = acceptor.accept(ReadAhead::new(socket)).await.unwrap();
            let handler = move |request| drop(arrived.send(request));
            reference::serve(stream, &server_settings, handler, std::future::pending()).await.unwrap();
        });
        let secure = async |io| {
            let connector = tokio_rustls::TlsConnector::from(client);
            let stream = connector.connect("agent".try_into().unwrap(), io).await;
            stream.map_err(|error| OpenError::Tls(error.to_string().into()))
        };
        let tunnel = reference::connect(&settings, TcpStream::connect(address), secure).await.unwrap();
        Self { tunnel, incoming }
    }

    async fn relayed(&mut self) -> Relayed {
        let (client, near) = pair().await;
        let (application, server) = pair().await;
        let request = ConnectRequest {
            authority: Authority::Address(SocketAddr::from(([10, 0, 0, 1], 80))),
            baggage: "".into(),
            forwarded: String::new(),
            traceparent: None,
            connection: ConnectionId(1),
            attempt: None,
        };
        let (send, answer) = self.tunnel.start(&request).unwrap();
        let (server_send, server_receive) = self.incoming.recv().await.unwrap().accept(None).unwrap();
        let Accepted { receive, .. } = answer.await.unwrap();
        let caller =
            tokio::task::spawn_local(async move { through_tunnel(&near, send, receive, &Nothing).await });
        let called = tokio::task::spawn_local(async move {
            through_tunnel(&application, server_send, server_receive, &Nothing).await
        });
        (client, server, caller, called)
    }
}

fn configurations() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["agent".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = [&rustls::version::TLS13];
    let client = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
    let mut client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
    let server = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions).unwrap();
    let mut server = server.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    server.alpn_protocols = vec![b"h2".to_vec()];
    (Arc::new(client), Arc::new(server))
}

async fn all_finished(relays: (JoinHandle<End>, JoinHandle<End>)) {
    assert!(is_finished(&relays.0.await.unwrap()) && is_finished(&relays.1.await.unwrap()));
}

#[test]
fn in_order() {
    on_worker(async {
        let mut line = Line::lay(Settings::default()).await;
        let (client, server, caller, called) = line.relayed().await;
        both_ways_and_half_close(client, server).await;
        all_finished((caller, called)).await;
        let (client, server, caller, called) = line.relayed().await;
        half_close_by_the_server(client, server).await;
        all_finished((caller, called)).await;
        let (client, server, caller, called) = line.relayed().await;
        much_both_ways(client, server).await;
        all_finished((caller, called)).await;
        let (client, server, caller, called) = line.relayed().await;
        end_behind_a_slow_reader(client, server).await;
        all_finished((caller, called)).await;
    });
}

/// Whatever the order in which data, ends and answers meet.
#[test]
fn ends_are_never_lost() {
    on_worker(async {
        let mut line = Line::lay(Settings::default()).await;
        for _ in 0..30 {
            let (client, server, caller, called) = line.relayed().await;
            half_close_by_the_server(client, server).await;
            all_finished((caller, called)).await;
            let (mut client, mut server, caller, called) = line.relayed().await;
            let speak = async {
                server.write_all(b"done speaking").await.unwrap();
                server.shutdown().await.unwrap();
                rest(&mut server).await
            };
            let listen = async {
                client.write_all(b"said at once").await.unwrap();
                client.shutdown().await.unwrap();
                rest(&mut client).await
            };
            let (said, heard) = tokio::join!(speak, listen);
            assert_eq!((said.0, said.1), (b"said at once".to_vec(), None));
            assert_eq!((heard.0, heard.1), (b"done speaking".to_vec(), None));
            all_finished((caller, called)).await;
        }
    });
}

#[test]
fn resets() {
    on_worker(async {
        let mut line = Line::lay(Settings::default()).await;
        let (client, server, caller, called) = line.relayed().await;
        reset_passes(client, server).await;
        assert!(matches!(caller.await.unwrap(), End::Near(_)));
        assert!(matches!(called.await.unwrap(), End::Stream(_)));
        let (client, server, caller, called) = line.relayed().await;
        reset_passes(server, client).await;
        assert!(matches!(caller.await.unwrap(), End::Stream(_)));
        assert!(matches!(called.await.unwrap(), End::Near(_)));
    });
}

#[test]
fn resets_pass_stuck_readers() {
    on_worker(async {
        let mut line = Line::lay(Settings::default()).await;
        let (client, server, ..) = line.relayed().await;
        reset_passes_a_stuck_reader(client, server).await;
        let (client, server, ..) = line.relayed().await;
        reset_passes_a_stuck_reader(server, client).await;
    });
}

#[test]
fn the_last_words_before_a_reset() {
    on_worker(async {
        let mut line = Line::lay(Settings::default()).await;
        for _ in 0..20 {
            let (mut client, mut server, ..) = line.relayed().await;
            server.write_all(b"go away").await.unwrap();
            let mut heard = [0; 7];
            client.read_exact(&mut heard).await.unwrap();
            reset(server);
            assert_eq!(rest(&mut client).await, (Vec::new(), Some(io::ErrorKind::ConnectionReset)));
        }
    });
}

#[test]
fn a_relay_that_is_dropped_is_no_end_of_file() {
    on_worker(async {
        let mut line = Line::lay(Settings::default()).await;
        let (mut client, mut server, caller, _called) = line.relayed().await;
        client.write_all(b"half of").await.unwrap();
        server.read_exact(&mut [0; 7]).await.unwrap();
        caller.abort();
        assert_eq!(rest(&mut server).await.1, Some(io::ErrorKind::ConnectionReset));
        assert_eq!(rest(&mut client).await.1, Some(io::ErrorKind::ConnectionReset));
    });
}

/// Streams that are quiet hold nothing of a small connection window, such as other speakers of HTTP/2 give.
#[test]
fn quiet_streams_leave_the_window_to_others() {
    on_worker(async {
        let settings = Settings { connection_window: 65_535, stream_window: 65_535, ..Settings::default() };
        let mut line = Line::lay(settings).await;
        let mut all = Vec::new();
        for _ in 0..20 {
            let (mut client, mut server, caller, called) = line.relayed().await;
            client.write_all(b"hello").await.unwrap();
            let mut heard = [0; 5];
            let reading = timeout(Duration::from_secs(5), server.read_exact(&mut heard)).await;
            assert!(reading.is_ok(), "stream {} is starved", all.len());
            all.push((client, server, caller, called));
        }
    });
}

/// What a tunnel notes of each frame that lies unread would be too much for it long before the windows are full.
#[test]
fn small_messages_to_a_reader_that_stopped_do_not_end_the_tunnel() {
    const BULK: usize = 8 << 20;
    const MESSAGES: u32 = 2000;
    on_worker(async {
        let windows = Settings {
            stream_window: 16 << 20,
            unread: 256 << 20,
            worker_unread: 256 << 20,
            ..Settings::default()
        };
        let mut line = Line::lay(Settings { small_frames: 256 << 10, ..windows }).await;
        let (mut client, mut server, caller, called) = line.relayed().await;
        client.set_nodelay(true).unwrap();
        // The kernel would make it larger for as long as nobody reads.
        socket2::SockRef::from(&server).set_recv_buffer_size(64 << 10).unwrap();
        // More than the sockets take.
        client.write_all(&vec![7; BULK]).await.unwrap();
        // What still lies in the client's socket would take the messages along.
        sleep(Duration::from_millis(500)).await;
        let sent = || line.tunnel.counters().sent.get();
        for message in 0..MESSAGES {
            let before = sent();
            client.write_all(&message.to_be_bytes()).await.unwrap();
            // Each is a frame of its own.
            while sent() == before {
                sleep(Duration::from_millis(1)).await;
            }
        }
        let (other, its_server, ..) = line.relayed().await;
        both_ways_and_half_close(other, its_server).await;
        client.shutdown().await.unwrap();
        server.shutdown().await.unwrap();
        let (all, error) = rest(&mut server).await;
        assert_eq!((all.len(), error), (BULK + 4 * MESSAGES as usize, None));
        let messages = all[BULK..].chunks(4).map(|message| u32::from_be_bytes(message.try_into().unwrap()));
        assert!(messages.eq(0..MESSAGES));
        all_finished((caller, called)).await;
    });
}
