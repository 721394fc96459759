//! Addresses as the maps hold them: 16 bytes in network order, IPv4 as `::ffff:a.b.c.d`. Pure.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP address of either family. IPv4 is held as its v4-mapped IPv6 address, so that one key serves both and a
/// v4-mapped destination of an IPv6 socket is the IPv4 destination it means.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Four words in network byte order, as the kernel's program contexts hold them.
    pub words: [u32; 4],
}

/// Where an application wanted to go. 16 + 2 + 2 = 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Address.
    pub address: Address,
    /// TCP port in host byte order.
    pub port: u16,
    /// Zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<Address>() == 4 * 4);
const _: () = assert!(size_of::<Destination>() == 16 + 2 + 2);

/// Third word of a v4-mapped address.
const MAPPED: u32 = 0x0000_ffff_u32.to_be();

impl Address {
    /// 127.0.0.1.
    pub const LOOPBACK_V4: Self = Self::from_v4_word(0x7f00_0001_u32.to_be());
    /// `::1`.
    pub const LOOPBACK_V6: Self = Self { words: [0, 0, 0, 1_u32.to_be()] };

    /// From an IPv4 address in network byte order.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self { words: [0, 0, MAPPED, word] }
    }

    /// Whether it stands for an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let [a, b, c, _] = self.words;
        a == 0 && b == 0 && c == MAPPED
    }

    /// The last word: the IPv4 address in network byte order where [`Address::is_v4`].
    #[inline(always)]
    pub const fn v4_word(&self) -> u32 {
        let [_, _, _, d] = self.words;
        d
    }

    /// 127.0.0.0/8 (also v4-mapped) or `::1`.
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        let [a, b, c, d] = self.words;
        if a != 0 || b != 0 {
            return false;
        }
        if c == MAPPED { u32::from_be(d) >> 24 == 127 } else { c == 0 && u32::from_be(d) == 1 }
    }

    /// `0.0.0.0` (also v4-mapped) or `::`: for `connect` it means this host.
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        let [a, b, c, d] = self.words;
        a == 0 && b == 0 && d == 0 && (c == 0 || c == MAPPED)
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::from_v4_word(v4.to_bits().to_be()),
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                let word = |shift: u32| ((bits >> shift) as u32).to_be();
                Self { words: [word(96), word(64), word(32), word(0)] }
            }
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        if address.is_v4() {
            return Self::V4(Ipv4Addr::from_bits(u32::from_be(address.v4_word())));
        }
        let bits =
            address.words.iter().fold(0_u128, |bits, word| bits << 32 | u128::from(u32::from_be(*word)));
        Self::V6(Ipv6Addr::from_bits(bits))
    }
}

impl From<Destination> for SocketAddr {
    fn from(destination: Destination) -> Self {
        Self::new(destination.address.into(), destination.port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_the_kernel_and_back() {
        for (text, back) in [
            ("10.1.2.3", "10.1.2.3"),
            ("255.255.255.255", "255.255.255.255"),
            ("fd00::1:2", "fd00::1:2"),
            ("::", "::"),
            ("::1", "::1"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
        ] {
            let address: IpAddr = text.parse().unwrap();
            let expected: IpAddr = back.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(address)), expected, "{text}");
        }
    }

    #[test]
    fn bytes_are_in_network_order() {
        let address = Address::from("10.1.2.3".parse::<IpAddr>().unwrap());
        let bytes: Vec<u8> = address.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3]);
    }

    #[test]
    fn loopback_and_unspecified() {
        for (text, loopback, unspecified) in [
            ("127.0.0.1", true, false),
            ("127.255.0.9", true, false),
            ("::1", true, false),
            ("::ffff:127.0.0.1", true, false),
            ("128.0.0.1", false, false),
            ("::2", false, false),
            ("0.0.0.0", false, true),
            ("::", false, true),
            ("::ffff:0.0.0.0", false, true),
            ("fe80::1", false, false),
            ("::127.0.0.1", false, false),
        ] {
            let address = Address::from(text.parse::<IpAddr>().unwrap());
            assert_eq!(address.is_loopback(), loopback, "{text}");
            assert_eq!(address.is_unspecified(), unspecified, "{text}");
        }
    }
}
