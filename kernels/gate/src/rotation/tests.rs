use super::{mersenne::Number, *};

/// The exponential as an integer, from the value X and the public fraction of x_hat. It is the product of two mantissas and of
/// 2 to the whole rest. None where the rest is negative.
fn exponential(rotation: &Rotation, x: i64, x_hat: u64) -> Option<(u64, u32)> {
    let modulus = 1i64 << rotation.fraction;
    let first = (x_hat as i64).rem_euclid(modulus);
    let second = (x - first).rem_euclid(modulus);
    let whole = (x - first - second) / modulus + i64::from(rotation.offset);
    let of = |fraction: i64| mantissa::mantissa(rotation.precision, fraction as u64, rotation.fraction);
    Some((of(first) * of(second), u32::try_from(whole).ok()?))
}

/// Both shares of beta: `seeded` is the first.
fn shares<W: Word, const L: usize>(rotation: &Rotation, r: u64, seeded: Number<W, L>) -> [Vec<u8>; 2] {
    let mut first = vec![0; Number::<W, L>::BYTES];
    seeded.write(&mut first);
    let mut second = first.clone();
    deal::<W, L>(rotation, [r].into_iter(), &mut second);
    [first, second]
}

fn halves<W: Word, const L: usize>(
    rotation: &Rotation,
    table: &[u16],
    shares: &[Vec<u8>; 2],
    x_hat: u64,
) -> [Number<W, L>; 2] {
    shares.each_ref().map(|share| row_sum::<W, L>(rotation, table, share, [x_hat].into_iter()).canonical())
}

#[test]
fn every_residue_of_a_small_ring_gives_the_exponential() {
    let rotation = Rotation { bits: 8, fraction: 3, precision: 1, offset: 1 };
    let table = mantissa::table(rotation.precision, rotation.fraction);
    let ring = 1u64 << rotation.exponent_bits();
    for r in 0..ring {
        for x in 0..=32i64 {
            let x_hat = (x as u64 + r) % ring;
            let (mantissas, whole) = exponential(&rotation, x, x_hat).expect("x + offset is 1 at least");
            let expected = mantissas << whole;
            assert!(expected < 255, "x + offset + 2 P + 1 is 8 at most");
            for seeded in 0..=255u8 {
                let shares = shares(&rotation, r, Number([seeded]));
                let [e_0, e_1] = halves::<u8, 1>(&rotation, &table, &shares, x_hat);
                assert_eq!(u64::from(e_0.plus(e_1).canonical().0[0]), expected, "x = {x}, r = {r}, {seeded}");
            }
        }
    }
}

#[test]
fn every_share_of_a_small_ring_is_truncated_to_the_floor_or_one_more() {
    const M: u64 = (1 << 16) - 1;
    let rotation = Rotation { bits: 16, fraction: 3, precision: 2, offset: 1 };
    let table = mantissa::table(rotation.precision, rotation.fraction);
    let (ring, dropped) = (1u64 << rotation.exponent_bits(), 5);
    for (x, r) in [(0i64, 0u64), (0, 77), (5, 3), (13, 120), (31, 64), (40, 127), (48, 9)] {
        let x_hat = (x as u64 + r) % ring;
        let (mantissas, whole) = exponential(&rotation, x, x_hat).expect("x + offset is 1 at least");
        let e = mantissas << whole;
        let (mut unwrapped, mut error) = (0, 0i64);
        for seeded in 0..M as u16 {
            let shares = shares(&rotation, r, Number(seeded.to_le_bytes()));
            let [e_0, e_1] = halves::<u8, 2>(&rotation, &table, &shares, x_hat);
            let [e_0, e_1] = [e_0, e_1].map(|half| u64::from(u16::from_le_bytes(half.0)));
            assert_eq!((e_0 + e_1) % M, e % M);
            let of = |half, share: &[u8]| truncated::<u8, 2>(&rotation, &table, dropped, half, share, x_hat);
            let made = of(Half::Upper, &shares[0]).wrapping_add(of(Half::Lower, &shares[1])) & 0xFF;
            if e_0 + e_1 == e && e_1 != 0 {
                unwrapped += 1;
                continue;
            }
            let coin = u64::from(e_0 % 32 < e % 32);
            assert_eq!(made, ((e >> dropped) + coin) & 0xFF, "x = {x}, r = {r}, share {seeded}");
            error += ((((e >> dropped) + coin) << dropped) as i64) - e as i64;
        }
        // Products with a mantissa that divides M hit a residue more than once.
        assert!(unwrapped <= e + 7, "{unwrapped} of M shares do not wrap, e = {e}");
        assert!(error.unsigned_abs() <= 32 * (e + 32), "the rounding is unbiased: {error} of {M} shares");
    }
}

/// Words of 64 bits, at the ends of the range and in the middle.
fn edges<const L: usize>(precision: u32, slack: u32) {
    let bits = 64 * L as u32;
    let rotation = Rotation { bits, fraction: FRACTION, precision, offset: bits / 2 };
    let table = mantissa::table(precision, FRACTION);
    let least = (1 - i64::from(rotation.offset)) << FRACTION;
    let most = (i64::from(bits) - i64::from(slack + 2 * precision + 1 + rotation.offset)) << FRACTION;
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        random = random.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(1);
        random ^ random >> 29
    };
    for x in [least, least + 1, least + 4095, -1, 0, 1, 4096, (least + most) / 2, most - 1, most] {
        for _ in 0..50 {
            let r = next();
            let x_hat = (x as u64).wrapping_add(r);
            let seeded = Number::<u64, L>(std::array::from_fn(|_| next()));
            let shares = shares(&rotation, r, seeded);
            let [e_0, e_1] = halves::<u64, L>(&rotation, &table, &shares, x_hat);
            let (mantissas, whole) = exponential(&rotation, x, x_hat).expect("in the range");
            let e = Number::<u64, L>::placed(mantissas, whole);
            assert_eq!(e_0.plus(e_1).canonical(), e, "m = {bits}, x = {x}");
            let dropped = bits / 4;
            if slack > 0 {
                let of =
                    |half, share: &[u8]| truncated::<u64, L>(&rotation, &table, dropped, half, share, x_hat);
                let made = of(Half::Upper, &shares[0]).wrapping_add(of(Half::Lower, &shares[1]));
                assert!(made.wrapping_sub(e.window(dropped)) < 2, "m = {bits}, x = {x}");
            }
        }
    }
}

#[test]
fn exponentials_of_full_size_are_right_at_the_ends_of_their_range() {
    edges::<1>(6, 0);
    edges::<2>(6, 0);
    edges::<4>(6, 0);
    edges::<8>(6, 0);
    edges::<2>(15, 64);
    edges::<4>(15, 64);
    edges::<8>(15, 64);
    edges::<16>(15, 64);
}

#[test]
fn below_the_range_the_result_is_another_number() {
    let rotation = Rotation { bits: 64, fraction: FRACTION, precision: 6, offset: 1 };
    let table = mantissa::table(6, FRACTION);
    // The fractions add up to more than 1, so that the whole parts add up to less than 0.
    let (x, r) = (-3 << FRACTION, 2048u64);
    let x_hat = (x as u64).wrapping_add(r);
    assert_eq!(exponential(&rotation, x, x_hat), None);
    let shares = shares(&rotation, r, Number([12345u64]));
    let [e_0, e_1] = halves::<u64, 1>(&rotation, &table, &shares, x_hat);
    assert!(e_0.plus(e_1).canonical().0[0] > 1 << 32, "it comes out at the top");
}

#[test]
fn sums_of_rows_are_sums_of_exponentials() {
    let rotation = Rotation { bits: 128, fraction: FRACTION, precision: 6, offset: 40 };
    let table = mantissa::table(6, FRACTION);
    let (cols, mut expected) = (77u64, 0u128);
    let mut both = [Vec::new(), Vec::new()];
    let mut row = Vec::new();
    for i in 0..cols {
        let x = ((i * 7919 % 80) as i64 - 39) * 4096 + i as i64;
        let r = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        row.push((x as u64).wrapping_add(r));
        let (mantissas, whole) = exponential(&rotation, x, row[i as usize]).expect("in the range");
        expected += u128::from(mantissas) << whole;
        let seeded = Number::<u64, 2>([r.rotate_left(11), r.rotate_left(31)]);
        for (all, share) in both.iter_mut().zip(shares(&rotation, r, seeded)) {
            all.extend(share);
        }
    }
    let [a, b] = both.map(|shares| row_sum::<u64, 2>(&rotation, &table, &shares, row.iter().copied()));
    let sum = a.plus(b).canonical();
    assert_eq!(u128::from(sum.0[0]) | u128::from(sum.0[1]) << 64, expected);
}
