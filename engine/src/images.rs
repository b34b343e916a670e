//! `decode_image(bytes, height, width, channels)`: PNG and JPEG images as vectors of bytes.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeListArray, UInt8Array,
};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use image::imageops::FilterType;
use image::{DynamicImage, ImageReader, Limits};

/// Pixels of a side at most, of the images that are read and of those that are made.
const MAX_SIDE: i64 = 16_384;
/// Bytes that decoding an image may take at most.
const MAX_BYTES: u64 = 256 << 20;
/// Bytes of a decoded image at most.
const MAX_PIXELS: i64 = 1 << 26;

/// The function.
pub fn decode_image_udf() -> ScalarUDF {
    let signature = Signature::any(4, Volatility::Immutable);
    ScalarUDF::from(DecodeImage { signature })
}

/// `[height, width, channels]` of the images that are made.
#[derive(Clone, Copy, Debug)]
struct Shape {
    height: u32,
    width: u32,
    channels: u32,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DecodeImage {
    signature: Signature,
}

impl Shape {
    /// # Errors
    /// When one is no literal, or is out of range.
    fn of(literals: &[Option<&ScalarValue>]) -> Result<Self> {
        let side = |value: Option<&ScalarValue>, name: &str, most: i64| -> Result<i64> {
            let number = match value.map(|value| value.cast_to(&DataType::Int64)) {
                Some(Ok(ScalarValue::Int64(Some(number)))) => number,
                _ => {
                    return plan_err!(
                        "the {name} of decode_image must be a whole number that the statement says"
                    );
                }
            };
            if !(1..=most).contains(&number) {
                return plan_err!(
                    "the {name} of decode_image must be from 1 to {most}, but is {number}"
                );
            }
            Ok(number)
        };
        let [height, width, channels] = literals else {
            return internal_err!("decode_image takes four arguments");
        };
        let height = side(*height, "height", MAX_SIDE)?;
        let width = side(*width, "width", MAX_SIDE)?;
        let channels = side(*channels, "number of channels", 3)?;
        if channels == 2 {
            return plan_err!(
                "the number of channels of decode_image must be 1 (grey) or 3 (red, green, blue), \
                 but is 2"
            );
        }
        if height * width * channels > MAX_PIXELS {
            return plan_err!(
                "an image of {height} by {width} by {channels} has more than {MAX_PIXELS} numbers"
            );
        }
        Ok(Self { height: height as u32, width: width as u32, channels: channels as u32 })
    }

    fn bytes(self) -> usize {
        self.height as usize * self.width as usize * self.channels as usize
    }

    /// Nested lists of these lengths.
    fn data_type(self) -> DataType {
        [self.channels, self.width, self.height].into_iter().fold(DataType::UInt8, |item, n| {
            DataType::FixedSizeList(Arc::new(Field::new_list_field(item, true)), n as i32)
        })
    }

    /// The values of all rows as nested lists.
    fn nested(self, values: Vec<u8>, nulls: NullBuffer) -> Result<ArrayRef> {
        let mut lists: ArrayRef = Arc::new(UInt8Array::from(values));
        for (n, nulls) in [(self.channels, None), (self.width, None), (self.height, Some(nulls))] {
            let item = Arc::new(Field::new_list_field(lists.data_type().clone(), true));
            lists = Arc::new(FixedSizeListArray::try_new(item, n as i32, lists, nulls)?);
        }
        Ok(lists)
    }

    /// The pixels of an image, row by row; None where the bytes are no image of a known format, or
    /// one that is too large. Another size is resampled.
    fn decode(self, bytes: &[u8]) -> Option<Vec<u8>> {
        // (Decoders may panic on damaged bytes.)
        catch_unwind(AssertUnwindSafe(|| self.pixels(bytes))).ok().flatten()
    }

    fn pixels(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE as u32);
        limits.max_image_height = Some(MAX_SIDE as u32);
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        let image = reader.decode().ok()?;
        let image = match (image.width(), image.height()) == (self.width, self.height) {
            true => image,
            false => image.resize_exact(self.width, self.height, FilterType::Triangle),
        };
        Some(match self.channels {
            1 => DynamicImage::into_luma8(image).into_raw(),
            _ => image.into_rgb8().into_raw(),
        })
    }
}

impl ScalarUDFImpl for DecodeImage {
    fn name(&self) -> &str {
        "decode_image"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the type of decode_image depends on its arguments")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let first = args.arg_fields.first().map(|field| field.data_type());
        match first {
            Some(
                DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::FixedSizeBinary(_)
                | DataType::Null,
            ) => {}
            other => {
                let found = other.map_or_else(String::new, ToString::to_string);
                return plan_err!("decode_image takes binary values, but the first is {found}");
            }
        }
        let shape = Shape::of(args.scalar_arguments.get(1..).unwrap_or_default())?;
        Ok(Arc::new(Field::new(self.name(), shape.data_type(), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ScalarFunctionArgs { args, number_rows, .. } = args;
        let literal = |arg: &ColumnarValue| match arg {
            ColumnarValue::Scalar(value) => Some(value.clone()),
            ColumnarValue::Array(_) => None,
        };
        let literals: Vec<Option<ScalarValue>> = args.iter().skip(1).map(literal).collect();
        let literals: Vec<Option<&ScalarValue>> = literals.iter().map(Option::as_ref).collect();
        let shape = Shape::of(&literals)?;
        let Some(first) = args.first() else { return internal_err!("decode_image lost its image") };
        let images = cast(&first.to_array(number_rows)?, &DataType::Binary)?;
        let images: &BinaryArray = images.as_binary();
        let mut values = Vec::with_capacity(images.len() * shape.bytes());
        let mut known = Vec::with_capacity(images.len());
        for image in images {
            let pixels = image.and_then(|bytes| shape.decode(bytes));
            known.push(pixels.is_some());
            match pixels {
                Some(pixels) if pixels.len() == shape.bytes() => values.extend(pixels),
                _ => values.resize(values.len() + shape.bytes(), 0),
            }
        }
        Ok(ColumnarValue::Array(shape.nested(values, NullBuffer::from(known))?))
    }
}
