use std::io::Write;

use super::*;

fn array(shape: &[usize], dtype: Dtype, units: &[i64]) -> Array<'static> {
    Array::of_units(Form { shape: shape.to_vec(), fortran: false, dtype }, units, 12)
}

fn file(array: &Array, format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_to(&mut bytes, format, array.form(), |out| out.write_all(array.data())).unwrap();
    bytes
}

fn parse(bytes: &[u8]) -> Result<Array<'static>, NpyError> {
    read_from(bytes, Reading::default())
}

fn from_pipe(bytes: &[u8]) -> Result<Array<'static>, NpyError> {
    read_npy(&mut &bytes[..], Length::Unknown, Reading::default())
}

/// A file of this version with this header and this much data.
fn with_header(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &[version, 0]].concat();
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn header(descr: &str, fortran: &str, shape: &str) -> String {
    format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}")
}

#[test]
fn what_is_written_is_read_back_in_every_type_and_format() {
    for dtype in Dtype::ALL {
        for (shape, units) in [(&[][..], &[5][..]), (&[3], &[0, 1, 2]), (&[2, 1, 2], &[0, 1, 2, 3])] {
            let array = array(shape, dtype, units);
            let reading = Reading { bfloat16: dtype == Dtype::Bf16 };
            for format in [Format::Npy, Format::Npz] {
                let bytes = file(&array, format);
                assert_eq!(read_from(&bytes, reading).unwrap(), array, "{dtype:?} {format:?}");
            }
            let bytes = file(&array, Format::Npy);
            let header = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
            assert_eq!(header % ALIGNMENT, 0);
        }
    }
}

#[test]
fn every_cut_and_an_extra_byte_are_damage() {
    let array = array(&[2], Dtype::F32, &[4096, 8192]);
    let whole = file(&array, Format::Npy);
    assert_eq!(from_pipe(&whole).unwrap(), array);
    for end in 0..whole.len() {
        assert!(matches!(parse(&whole[..end]), Err(NpyError::Damaged(_))), "cut at {end}");
        assert!(matches!(from_pipe(&whole[..end]), Err(NpyError::Damaged(_))), "a pipe cut at {end}");
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(matches!(parse(&longer), Err(NpyError::Damaged(_))));
    assert!(matches!(from_pipe(&longer), Err(NpyError::Damaged(_))));
    let archive = file(&array, Format::Npz);
    for end in 0..archive.len() {
        assert!(parse(&archive[..end]).is_err(), "an archive cut at {end}");
    }
    // The checksum is compared.
    let data = archive.windows(4).position(|bytes| bytes == 2.0_f32.to_le_bytes()).unwrap();
    let mut changed = archive;
    changed[data] ^= 1;
    assert!(parse(&changed).is_err());
}

#[test]
fn versions_byte_orders_and_spellings_of_numpy_are_read() {
    let little: Vec<u8> = [1.0_f32, 2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let big: Vec<u8> = [1.0_f32, 2.0].iter().flat_map(|x| x.to_be_bytes()).collect();
    for version in [1, 2, 3] {
        for (descr, shape, data) in [
            ("'<f4'", "(2,)", &little),
            ("'=f4'", "(2L,)", &little),
            ("'f4'", "(1, 2)", &little),
            ("\"float32\"", "(2, 1)", &little),
            ("'>f4'", "(2,)", &big),
        ] {
            let array = parse(&with_header(version, &header(descr, "False", shape), data)).unwrap();
            assert_eq!(array.reals(0..2), [1.0, 2.0], "{version} {descr} {shape}");
            assert_eq!(array.form().dtype, Dtype::F32);
        }
    }
}

#[test]
fn the_order_of_the_axes_is_kept_and_indices_follow_it() {
    let data: Vec<u8> = (0..6_i64).flat_map(i64::to_le_bytes).collect();
    let fortran = parse(&with_header(1, &header("'<i8'", "True", "(2, 3)"), &data)).unwrap();
    assert!(fortran.form().fortran);
    assert_eq!((0..3).map(|at| fortran.form().index(at)).collect::<Vec<_>>(), [[0, 0], [1, 0], [0, 1]]);
    let c = parse(&with_header(1, &header("'<i8'", "False", "(2, 3)"), &data)).unwrap();
    assert_eq!((0..4).map(|at| c.form().index(at)).collect::<Vec<_>>(), [[0, 0], [0, 1], [0, 2], [1, 0]]);
    assert_eq!(parse(&file(&fortran, Format::Npy)).unwrap(), fortran);
}

#[test]
fn bfloat16_is_read_when_it_is_said_that_it_is() {
    let data = [0x80, 0x3f, 0x00, 0xc0];
    let saved = with_header(1, &header("'<V2'", "False", "(2,)"), &data);
    let message = parse(&saved).unwrap_err().to_string();
    assert!(message.contains("--dtype bfloat16"), "{message}");
    let array = read_from(&saved, Reading { bfloat16: true }).unwrap();
    assert_eq!(array.reals(0..2), [1.0, -2.0]);
    let named = with_header(1, &header("'bfloat16'", "False", "(2,)"), &data);
    assert_eq!(parse(&named).unwrap(), array);
    let other = with_header(1, &header("'<f2'", "False", "(2,)"), &data);
    let message = read_from(&other, Reading { bfloat16: true }).unwrap_err().to_string();
    assert!(message.contains("float16") && message.contains("leave --dtype out"), "{message}");
}

#[test]
fn what_is_not_accepted_says_so() {
    for (descr, word) in [
        ("'|b1'", "Booleans"),
        ("'|O'", "objects"),
        ("'<c8'", "complex"),
        ("'<U4'", "text"),
        ("[('a', '<f4')]", "one field"),
        ("('<f4', (2,))", "one field"),
    ] {
        let error = parse(&with_header(1, &header(descr, "False", "(1,)"), &[0; 4])).unwrap_err();
        assert!(matches!(error, NpyError::Dtype(..)) && error.to_string().contains(word), "{descr}: {error}");
    }
    for shape in ["(0, 3)", "(18446744073709551615, 0)"] {
        let empty = with_header(1, &header("'<f4'", "False", shape), &[]);
        assert!(matches!(parse(&empty), Err(NpyError::Empty)), "{shape}");
    }
    for shape in ["(-1,)", "(a,)", "4", "(4)"] {
        let bytes = with_header(1, &header("'<f4'", "False", shape), &[0; 4]);
        assert!(matches!(parse(&bytes), Err(NpyError::Damaged(_))), "{shape}");
    }
    let long = with_header(2, &" ".repeat(MAX_HEADER_BYTES + 1), &[]);
    assert!(matches!(parse(&long), Err(NpyError::Damaged(_))));
    assert!(matches!(parse(&with_header(4, "{}", &[])), Err(NpyError::Damaged(_))));
}

#[test]
fn too_many_elements_are_refused_by_the_header_alone() {
    for shape in ["(100000001,)", "(4294967296, 4294967296, 4)", "(10001, 10000)"] {
        // There is no data at all, whose lack would be another error.
        let bytes = with_header(1, &header("'<f8'", "False", shape), &[]);
        assert!(matches!(parse(&bytes), Err(NpyError::TooMany(_))), "{shape}");
        assert!(matches!(from_pipe(&bytes), Err(NpyError::TooMany(_))), "a pipe with {shape}");
    }
    let most = with_header(1, &header("'<f8'", "False", "(100000000,)"), &[]);
    assert!(matches!(parse(&most), Err(NpyError::Damaged(_))));
    assert!(matches!(from_pipe(&most), Err(NpyError::Damaged(_))));
}

#[test]
fn an_archive_that_is_not_one_array_says_what_it_holds() {
    let archive = |names: &[&str]| {
        let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for name in names {
            out.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            out.write_all(&file(&array(&[1], Dtype::F32, &[4096]), Format::Npy)).unwrap();
        }
        out.finish().unwrap().into_inner()
    };
    assert_eq!(parse(&archive(&["weights.npy"])).unwrap().reals(0..1), [1.0]);
    for (names, words) in [
        (&[][..], "is empty"),
        (&["a.npy", "b.npy"], "2 files (\"a.npy\", \"b.npy\")"),
        (&["data.pkl"], "\"data.pkl\""),
    ] {
        let error = parse(&archive(names)).unwrap_err();
        assert!(matches!(error, NpyError::Archive(_)) && error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_packed_archive_unpacks_to_what_its_header_says_and_no_further() {
    let packed = |inside: &[u8]| {
        let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        out.start_file("arr_0.npy", options).unwrap();
        out.write_all(inside).unwrap();
        out.finish().unwrap().into_inner()
    };
    let good = file(&array(&[100], Dtype::I16, &[7; 100]), Format::Npy);
    assert_eq!(parse(&packed(&good)).unwrap().reals(0..100), [7.0; 100]);
    // Sixteen MB of zeros behind a header of one value: refused by the size that the archive declares.
    let bomb = with_header(1, &header("'<f8'", "False", "(1,)"), &vec![0; 16 << 20]);
    let error = parse(&packed(&bomb)).unwrap_err();
    assert!(error.to_string().contains("needs 8 bytes of data"), "{error}");
    let huge = with_header(1, &header("'<f8'", "False", "(100000001,)"), &[]);
    assert!(matches!(parse(&packed(&huge)), Err(NpyError::TooMany(_))));
}

#[test]
fn files_are_written_in_the_format_that_their_name_says() {
    for (name, format) in [
        ("y.npy", Format::Npy),
        ("y.npz", Format::Npz),
        ("y.NPZ", Format::Npz),
        ("y", Format::Npy),
        ("npz", Format::Npy),
    ] {
        assert_eq!(Format::of(name.as_ref()), format, "{name}");
    }
}
