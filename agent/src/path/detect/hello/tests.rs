//! Hellos as rustls writes them, whole, cut, split over records and broken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use super::*;

/// What a client of rustls says first.
fn hello(name: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name.try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same message in records of at most so many bytes.
fn split(bytes: &[u8], most: usize) -> Vec<u8> {
    let pieces = bytes[5..].chunks(most);
    pieces.flat_map(|piece| [&[0x16, 3, 1, 0, piece.len() as u8], piece].concat()).collect()
}

#[test]
fn finds_the_name_however_it_is_split() {
    let whole = hello("shop.example.com");
    assert!(whole.len() < WINDOW, "{}", whole.len());
    assert_eq!(sni(&whole).as_deref(), Some("shop.example.com"));
    for most in [1, 2, 7, 100, 255] {
        assert_eq!(sni(&split(&whole, most)).as_deref(), Some("shop.example.com"), "{most}");
    }
    // Application data of some other record behind it does not matter.
    assert_eq!(sni(&[&whole[..], b"\x17\x03\x03\0\x05"].concat()).as_deref(), Some("shop.example.com"));
}

#[test]
fn a_cut_hello_asks_for_more_until_the_name_is_there() {
    let whole = hello("shop.example.com");
    let mut named = false;
    for end in 0..=whole.len() {
        match read(&whole[..end]) {
            Hello::More => assert!(!named, "{end}"),
            Hello::Name(name) => {
                assert_eq!(name, "shop.example.com");
                named = true;
            }
            Hello::Nameless => panic!("{end}"),
        }
    }
    assert!(named);
}

#[test]
fn has_no_name() {
    assert_eq!(read(&hello("10.0.0.1")), Hello::Nameless);
    assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), Hello::Nameless);
    assert_eq!(read(b"\x16\x03\x01\0\x04\x02\0\0\0"), Hello::Nameless);
    let mut spaced = hello("shop.example.com");
    let at = spaced.windows(4).position(|part| part == b"shop").unwrap();
    spaced[at] = b'\n';
    assert_eq!(read(&spaced), Hello::Nameless);
}

proptest::proptest! {
    #[test]
    fn never_panics(place in 0_usize..600, byte: u8, rest: Vec<u8>) {
        let mut bytes = hello("shop.example.com");
        let place = place % bytes.len();
        bytes[place] = byte;
        let _ = read(&bytes);
        let _ = read(&rest);
        let _ = read(&[&[0x16, 3, 1, 1, 0, 1, 0][..], &rest].concat());
    }
}
