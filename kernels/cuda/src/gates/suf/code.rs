//! What a compiled specification asks for, as CUDA: four functions in which each of its sums is a line.

use std::fmt::Write;

use suf_gate::spec::{
    CompiledSpec,
    compile::{Base, Element, Output, Part, Switch},
};

/// `deal_helpers`: deals the truth tables, returns the masks of the gates, a bit for each.
pub(super) fn deal_helpers(spec: &CompiledSpec) -> String {
    let mut code = String::new();
    for (g, gate) in spec.gates().iter().enumerate() {
        if let Switch::Helper { truth, .. } = gate {
            let words = truth
                .chunks(32)
                .map(|rows| rows.iter().rev().fold(0_u32, |word, row| word << 1 | u32::from(*row)));
            let words: Vec<String> = words.map(|word| format!("{word:#x}u")).collect();
            line(
                &mut code,
                format_args!("__constant__ u32 TRUTH_{g}[{}] = {{{}}};", words.len(), words.join(",")),
            );
        }
    }
    code.push_str(
        "__device__ inline u64 deal_helpers(const Job& job, Element e, u64 masks) {\n    u64 omegas = 0;\n",
    );
    let mut helpers = 0;
    for (g, gate) in spec.gates().iter().enumerate() {
        match gate {
            Switch::Opened(comparison) => {
                line(&mut code, format_args!("    omegas |= (masks >> {comparison} & 1) << {g};"));
            }
            Switch::Helper { inputs, .. } => {
                let field = spec.field(Part::HelperTable(g)).expect("a helper has its table").0;
                let masks = bits_of("masks", inputs);
                let count = inputs.len();
                line(
                    &mut code,
                    format_args!(
                        "    {{\n        u32 omega = key_bit(job, job.dealer[F_HELPER_MASKS], {helpers}, e.index);"
                    ),
                );
                line(
                    &mut code,
                    format_args!("        deal_helper<{count}>(job, {field}, e, TRUTH_{g}, {masks}, omega);"),
                );
                line(&mut code, format_args!("        omegas |= (u64)omega << {g};\n    }}"));
                helpers += 1;
            }
        }
    }
    code.push_str("    return omegas;\n}\n");
    code
}

/// `deal_elements`: turns the seeded side's shares of the ring elements into the explicit side's.
pub(super) fn deal_elements(spec: &CompiledSpec) -> String {
    let mut code =
        "__device__ inline void deal_elements(const Job& job, u32 e, u64 r_in, u32 by_p0, u64 omegas) {\n"
            .to_owned();
    code.push_str("    u64 power[4] = {1, 0 - r_in, r_in * r_in, 0 - r_in * r_in * r_in};\n");
    if spec.table().is_some() {
        code.push_str(
            "    u64 a = (table_mask(job.key[0][F_TABLE_MASK], e) + table_mask(job.key[1][F_TABLE_MASK], e)) & \
             ((1ULL << ENTRY_BITS) - 1);\n    u64 sign = 2 * (u64)by_p0 - 1;\n",
        );
    }
    if spec.pieces().is_some() {
        code.push_str(
            "    u64 sigma = 1 - 2 * (u64)own_bit(job, F_SIGN_MASK, 0, e);\n    u64 mask[DEGREE + 1];\n    \
             for (int j = 0; j <= DEGREE; j++) mask[j] = packed_at(job.key[0][F_COEFFICIENT_MASKS], e * (DEGREE + 1) + j) + \
             packed_at(job.key[1][F_COEFFICIENT_MASKS], e * (DEGREE + 1) + j);\n",
        );
    }
    let degree = spec.pieces().map_or(0, |pieces| pieces.degree());
    for (i, Element { gate, base }) in spec.elements().iter().enumerate() {
        let value = match base {
            Base::Power(k) => format!("power[{k}]"),
            Base::TableSign => "sign".to_owned(),
            Base::TableMask => "sign * a".to_owned(),
            Base::TableCarry => "sign * (a >> (ENTRY_BITS - 1))".to_owned(),
            Base::PiecePower(k) => format!("sigma * power[{k}]"),
            Base::PieceConstant(e) => {
                let e = usize::from(*e);
                let terms =
                    (e..=degree).map(|j| format!("{}ULL * mask[{j}] * power[{}]", binomial(j, e), j - e));
                format!("sigma * ({})", terms.collect::<Vec<_>>().join(" + "))
            }
        };
        let omega = gate.map_or_else(String::new, |gate| format!(" * (omegas >> {gate} & 1)"));
        line(&mut code, format_args!("    subtract_packed(job, e, {i}, {value}{omega});"));
    }
    code.push_str("}\n");
    code
}

/// `helper_rows`: shares the row of each helper's table that the opened comparisons name.
pub(super) fn helper_rows(spec: &CompiledSpec) -> String {
    let mut code = "__device__ inline void helper_rows(const Job& job, Element e, u64 opened) {\n".to_owned();
    let helpers = spec.gates().iter().enumerate().filter_map(|(g, gate)| match gate {
        Switch::Helper { inputs, .. } => Some((g, inputs)),
        Switch::Opened(_) => None,
    });
    for (helper, (g, inputs)) in helpers.enumerate() {
        let field = spec.field(Part::HelperTable(g)).expect("a helper has its table").0;
        let row = bits_of("opened", inputs);
        line(
            &mut code,
            format_args!(
                "    put_message_bit({helper}, e, key_bit(job, job.key[0][{field}], {row}, e.index));"
            ),
        );
    }
    code.push_str("}\n");
    code
}

/// `output_share`: this party's share of y_hat.
pub(super) fn output_share(spec: &CompiledSpec) -> String {
    let mut code = "__device__ inline u64 output_share(const Job& job, u32 e, const Opened& open, u64 helpers) {\n    \
                    u64 x_hat = job.input[e], one = job.party == 0;\n    \
                    u64 minus_r = 0 - packed_at(job.taken[0], e);\n    \
                    u64 sum = packed_at(job.made[0], e), value;\n    \
                    auto element = [&](u32 i) { return packed_at(job.key[0][F_ELEMENTS], e * ELEMENTS + i); };\n"
        .to_owned();
    // A gate's opened bit, all ones or zero.
    let mut helpers = 0..;
    for (g, gate) in spec.gates().iter().enumerate() {
        let bit = match gate {
            Switch::Opened(comparison) => format!("open.comparisons >> {comparison}"),
            Switch::Helper { .. } => format!("helpers >> {}", helpers.next().unwrap_or_default()),
        };
        line(&mut code, format_args!("    bool gate_{g} = ({bit} & 1) != 0;"));
    }
    if spec.table().is_some() {
        code.push_str(
            "    u64 moved = (open.entry + (1ULL << (ENTRY_BITS - 2))) & ((1ULL << ENTRY_BITS) - 1);\n    \
             u64 wrapped = (moved >> (ENTRY_BITS - 1) ^ 1) << ENTRY_BITS;\n",
        );
    }
    for output in spec.outputs() {
        add_output(&mut code, spec, output);
    }
    code.push_str("    return sum;\n}\n");
    code
}

/// The lines of one summand.
fn add_output(code: &mut String, spec: &CompiledSpec, output: &Output) {
    let share = |base| weighted(spec, output.gate, base);
    if output.table != 0 {
        // entry = moved - 2^(k-2) - a, and 2^k more if the sum wrapped: if a's top bit was set and moved has none.
        let [sign, mask, carry] = [Base::TableSign, Base::TableMask, Base::TableCarry].map(share);
        let factor = hex(output.table);
        line(
            code,
            format_args!(
                "    sum += {factor} * ({sign} * (moved - (1ULL << (ENTRY_BITS - 2))) - {mask} + {carry} * wrapped);"
            ),
        );
    }
    if !output.fixed.is_empty() {
        code.push_str("    value = 0;\n");
        for e in (0..output.fixed.len()).rev() {
            let terms = output.fixed.iter().enumerate().skip(e).filter(|(_, c)| **c != 0).map(|(j, c)| {
                let power = share(Base::Power((j - e) as u8));
                format!(" + {} * {}ULL * {power}", hex(*c), binomial(j, e))
            });
            line(code, format_args!("    value = value * x_hat{};", terms.collect::<String>()));
        }
        code.push_str("    sum += value;\n");
    }
    if let Some(pieces) = spec.pieces().filter(|_| output.pieces != 0) {
        code.push_str("    value = 0;\n");
        for e in (0..=pieces.degree()).rev() {
            let terms = (e..=pieces.degree()).map(|j| {
                let power = share(Base::PiecePower((j - e) as u8));
                format!(" + open.coefficients[{j}] * {}ULL * {power}", binomial(j, e))
            });
            let constant = share(Base::PieceConstant(e as u8));
            line(code, format_args!("    value = value * x_hat{} - {constant};", terms.collect::<String>()));
        }
        line(code, format_args!("    sum += value * (2 * open.sign - 1) * {};", hex(output.pieces)));
    }
}

/// Shares of the gate's bit times the base: the gated element where the masked bit is 0, else the base less that.
fn weighted(spec: &CompiledSpec, gate: Option<usize>, base: Base) -> String {
    let element = |gate| spec.elements().iter().position(|element| *element == Element { gate, base });
    let plain = match base {
        Base::Power(0) => "one".to_owned(),
        Base::Power(1) => "minus_r".to_owned(),
        _ => format!("element({})", element(None).expect("the compiler lists an element for every base")),
    };
    match gate {
        None => plain,
        Some(gate) => {
            let gated = element(Some(gate)).expect("the compiler lists an element for every base of a gate");
            format!("(gate_{gate} ? {plain} - element({gated}) : element({gated}))")
        }
    }
}

/// The bits `places` of the variable `word`, as the low bits of a number.
fn bits_of(word: &str, places: &[usize]) -> String {
    let bits = places.iter().enumerate().map(|(i, place)| format!("(u32)({word} >> {place} & 1) << {i}"));
    if places.is_empty() { "0".to_owned() } else { format!("({})", bits.collect::<Vec<_>>().join(" | ")) }
}

fn hex(value: i64) -> String {
    format!("{:#x}ULL", value.cast_unsigned())
}

/// The binomial coefficient of small numbers.
fn binomial(n: usize, k: usize) -> u64 {
    (0..k as u64).fold(1, |product, i| product * (n as u64 - i) / (i + 1))
}

fn line(code: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(code, "{text}");
}
