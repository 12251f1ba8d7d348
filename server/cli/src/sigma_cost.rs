//! What SIGMA costs on the layers of an encoder, by formulas that follow its published code. They meet its own counters to the
//! byte for the models that it was measured on. Nothing here was measured by this program.

/// Sizes of a model, as SIGMA evaluates it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Tokens of a text.
    pub(crate) tokens: u64,
    /// Elements of a token's vector.
    pub(crate) hidden: u64,
    /// Attention heads.
    pub(crate) heads: u64,
    /// Inputs of the activation, for each token.
    pub(crate) inner: u64,
    /// Layers.
    pub(crate) layers: u64,
}

/// Bits of its ring for models of the size of BERT-base.
const RING: u64 = 50;
/// Fractional bits.
const FRACTION: u64 = 12;

/// Key bytes of a party, bytes of one direction, exchanges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) key_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) rounds: u64,
}

impl Cost {
    fn new(key_bytes: u64, exchanges: &[u64]) -> Self {
        Self { key_bytes, sent_bytes: exchanges.iter().sum(), rounds: exchanges.len() as u64 }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            key_bytes: self.key_bytes + other.key_bytes,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            rounds: self.rounds + other.rounds,
        }
    }

    fn times(self, count: u64) -> Self {
        Self {
            key_bytes: self.key_bytes * count,
            sent_bytes: self.sent_bytes * count,
            rounds: self.rounds * count,
        }
    }
}

fn log2_ceil(value: u64) -> u64 {
    value.next_power_of_two().ilog2().into()
}

/// Bytes of `count` packed bits.
fn bits(count: u64) -> u64 {
    count.div_ceil(32) * 4
}

/// Bytes of an exchange of `count` values of `width` bits that lie in `container` bytes each.
fn packed(count: u64, width: u64, container: u64) -> u64 {
    if width <= 2 {
        (width * count).div_ceil(32) * 4
    } else if width < 8 * container {
        (count * width).div_ceil(64) * 8
    } else {
        count * container
    }
}

fn tree(count: u64, depth: u64, all: bool) -> u64 {
    if depth <= 7 {
        return 8 + count * (1 << depth.saturating_sub(3));
    }
    let levels = depth - 7;
    24 + count * levels * 16 + 32 * count + if all { 4 * count } else { bits(count) * levels }
}

/// Truncation with a slack, from a ring of any width.
fn truncate_slack(count: u64, shift: u64, out: u64, container: u64) -> Cost {
    let key = 16 + tree(count, shift, false) + bits(count) + 3 * count * container;
    Cost::new(key, &[packed(count, 1, 8), packed(count, out, container)])
}

/// Faithful truncation.
fn truncate_floor(count: u64, from: u64, shift: u64, out: u64) -> Cost {
    let kept = from - shift;
    let key = |bits_in| tree(count, bits_in, false) + bits(count) + 2 * count * 8;
    let cost = Cost::new(16 + key(shift), &[packed(count, 1, 8), packed(count, kept, 8)]);
    if out <= kept {
        return cost;
    }
    cost.plus(Cost::new(key(kept), &[packed(count, 1, 8), packed(count, out, 8)]))
}

fn relu(count: u64, from: u64, out: u64, container: u64) -> Cost {
    let key = 12 + tree(count, from - 1, false) + bits(count) + 5 * count * container;
    Cost::new(key, &[packed(count, 1, 8), packed(count, out, container)])
}

fn lookup(count: u64, depth: u64, out: u64, opened: bool) -> Cost {
    let key = 4 + tree(count, depth, true) + bits(count) + 40 * count;
    let mut exchanges = vec![packed(count, 1, 8), packed(count, out, 8)];
    exchanges.extend(opened.then(|| packed(count, out, 8)));
    Cost::new(key, &exchanges)
}

fn product(left: u64, right: u64, out: u64) -> Cost {
    Cost::new(8 * (left + right + out), &[packed(out, RING, 8)])
}

fn product_elements(left: u64, right: u64, out: u64) -> Cost {
    product(left, right, out).plus(truncate_slack(out, FRACTION, RING, 8))
}

fn product_matrices(left: u64, right: u64, out: u64, shift: u64) -> Cost {
    product(left, right, out).plus(truncate_floor(out, RING, shift, RING))
}

/// Of a whole encoder: all layers, and the masks of the output.
pub(crate) fn of(sizes: &Sizes) -> Cost {
    let Sizes { tokens, hidden, layers, .. } = *sizes;
    attention(sizes)
        .plus(softmax(sizes))
        .plus(layer_norm(tokens, hidden).times(2))
        .plus(feed_forward(sizes))
        .times(layers)
        .plus(Cost::new(tokens * hidden * 8, &[]))
}

fn attention(sizes: &Sizes) -> Cost {
    let Sizes { tokens, hidden, heads, .. } = *sizes;
    let head = hidden / heads;
    let (vectors, scores) = (tokens * hidden, heads * tokens * tokens);
    let log_head = u64::from(head.ilog2());
    let is_odd = !log_head.is_multiple_of(2);
    let shift = FRACTION + if is_odd { 0 } else { log_head / 2 };
    let mut cost = product_matrices(vectors, 3 * hidden * hidden, 3 * vectors, FRACTION)
        .plus(product_matrices(vectors, vectors, scores, shift))
        .plus(product_matrices(scores, vectors, vectors, FRACTION))
        .plus(product_matrices(vectors, hidden * hidden, vectors, FRACTION));
    if is_odd {
        // The scores are scaled by the root of an odd power of two, and truncated again.
        cost = cost.plus(truncate_floor(scores, RING, FRACTION, RING));
    }
    cost
}

fn softmax(sizes: &Sizes) -> Cost {
    let Sizes { tokens, heads, .. } = *sizes;
    let (rows, scores) = (heads * tokens, heads * tokens * tokens);
    let (width, rounds) = (RING - FRACTION, log2_ceil(tokens));
    let maxima = (0..rounds).map(|round| relu(rows * (tokens >> (round + 1)), width + 1, width + 2, 8));
    let maximum = maxima.fold(Cost::new(4, &[]), Cost::plus);
    let exponential = relu(scores, width + 2, 16, 2)
        .plus(lookup(scores, 8, RING, true).times(2))
        .plus(truncate_slack(scores, 8, 8, 1))
        .plus(product_elements(scores, scores, scores));
    let inverse_bits = FRACTION + rounds;
    let inverse =
        truncate_slack(rows, 6, inverse_bits - 6, 2).plus(lookup(rows, inverse_bits - 6, RING, true));
    maximum.plus(exponential).plus(inverse).plus(product_elements(scores, rows, scores))
}

fn layer_norm(tokens: u64, hidden: u64) -> Cost {
    let elements = tokens * hidden;
    let mean_shift = if hidden.is_power_of_two() { hidden.ilog2().into() } else { FRACTION };
    let container = |bits: u64| match bits {
        33.. => 8,
        17.. => 4,
        9.. => 2,
        _ => 1,
    };
    let comparison = |bits: u64, out: u64| (bits + 1) * 16 + container(out) + bits * container(out) + 8;
    let ring = container(RING);
    let float = comparison(RING, RING) + comparison(RING - 8, 8) + 5 * ring + 2;
    let root = float + (7 * 16 + 2 + 2 + 16 + 8) + ring + 1 + 5 * ring;
    truncate_floor(tokens, RING, mean_shift, RING)
        .plus(Cost::new(16 * elements, &[packed(tokens, RING, 8)]))
        .plus(Cost::new(
            root * tokens,
            &[2 * tokens * 8, tokens * 8, tokens * 2, tokens * 8 + tokens.div_ceil(8), tokens * 8],
        ))
        .plus(product_elements(elements, tokens, elements))
        .plus(product_elements(elements, hidden, elements))
}

fn feed_forward(sizes: &Sizes) -> Cost {
    let Sizes { tokens, hidden, inner, .. } = *sizes;
    let (vectors, inputs) = (tokens * hidden, tokens * inner);
    let width = RING - 2 * FRACTION + 6 + 1;
    let gelu = Cost::new(4, &[])
        .plus(truncate_slack(inputs, 6, width, 8))
        .plus(Cost::new(tree(inputs, width - 1, false) + 2 * bits(inputs), &[2 * bits(inputs)]))
        .plus(Cost::new(8 * inputs, &[packed(inputs, 8, 1)]))
        .plus(lookup(inputs, 8, RING, false))
        .plus(Cost::new(40 * inputs, &[packed(inputs, RING, 8)]));
    product_matrices(vectors, hidden * inner, inputs, FRACTION).plus(gelu).plus(product_matrices(
        inputs,
        inner * hidden,
        vectors,
        FRACTION,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What SIGMA's own counters show, of keys, of bytes sent, of exchanges.
    #[test]
    fn the_formulas_give_the_published_figures() {
        let sizes = |tokens, hidden, layers| Sizes { tokens, hidden, heads: 12, inner: 4 * hidden, layers };
        for (sizes, layer) in [
            (sizes(128, 768, 12), [1_506_263_352, 44_266_272, 104]),
            (sizes(128, 384, 6), [1_105_275_256, 31_904_544, 108]),
            (sizes(32, 384, 6), [174_544_384, 4_745_832, 104]),
        ] {
            let Cost { key_bytes, sent_bytes, rounds } = of(&sizes);
            let output = sizes.tokens * sizes.hidden * 8;
            let expected = layer.map(|figure| figure * sizes.layers);
            assert_eq!([key_bytes - output, sent_bytes, rounds], expected, "{sizes:?}");
        }
    }
}
