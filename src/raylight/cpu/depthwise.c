// A depthwise 3x3 convolution of uint8 images, int8 weights: zero padding of 1, rounding to uint8 with saturation.
//
// Images lie in memory as [image][row][column][channel]. 64 channels at a time move along a row. The three rows of a column are
// interleaved so that each 32-bit lane holds one channel's three bytes (and a zero), which VNNI's dot product multiplies and
// adds at once; a column serves all outputs that it is part of. Interleaving orders the channels of a chunk as 4 x (0 to 3, 16
// to 19, 32 to 35, 48 to 51, then 4 to 7, ...); weights, scales and biases come in this order, and packing restores it.
#include <immintrin.h>
#include <stdint.h>

typedef struct { __m512i quarter[4]; } column;

static const column NO_COLUMN;

static inline __m512i loaded(const uint8_t *row, long offset, __mmask64 channels) {
    return row ? _mm512_maskz_loadu_epi8(channels, row + offset) : _mm512_setzero_si512();
}

static inline column interleaved(const uint8_t *const rows[3], long offset, __mmask64 channels) {
    __m512i above = loaded(rows[0], offset, channels), here = loaded(rows[1], offset, channels);
    __m512i below = loaded(rows[2], offset, channels), zero = _mm512_setzero_si512();
    __m512i low = _mm512_unpacklo_epi8(above, here), high = _mm512_unpackhi_epi8(above, here);
    __m512i low_below = _mm512_unpacklo_epi8(below, zero), high_below = _mm512_unpackhi_epi8(below, zero);
    column result = {{_mm512_unpacklo_epi16(low, low_below), _mm512_unpackhi_epi16(low, low_below),
                      _mm512_unpacklo_epi16(high, high_below), _mm512_unpackhi_epi16(high, high_below)}};
    return result;
}

// An output is round(sum * scale + bias); weights[chunk][column][quarter], scale and bias [chunk][quarter], 64 bytes each.
void depthwise(const uint8_t *images, uint8_t *outputs, const int8_t *weights, const float *scale, const float *bias,
               long n, long height, long width, long channels, long stride) {
    long out_height = (height - 1) / stride + 1, out_width = (width - 1) / stride + 1;
    for (long line = 0; line < n * out_height; line++) {
        long y = line % out_height * stride;
        const uint8_t *image = images + line / out_height * height * width * channels;
        for (long first = 0; first < channels; first += 64) {
            __mmask64 present = channels - first >= 64 ? ~0ULL : (1ULL << (channels - first)) - 1;
            const uint8_t *here = image + y * width * channels + first;
            const uint8_t *const rows[3] = {y > 0 ? here - width * channels : 0, here,
                                            y + 1 < height ? here + width * channels : 0};
            uint8_t *output = outputs + line * out_width * channels + first;
            __m512i weight[12];
            for (int i = 0; i < 12; i++) weight[i] = _mm512_loadu_si512(weights + first * 12 + 64 * i);
            column left = NO_COLUMN, middle = interleaved(rows, 0, present), right;
            for (long x = 0; x < out_width; x++) {
                long next = x * stride + 1;
                right = next < width ? interleaved(rows, next * channels, present) : NO_COLUMN;
                __m512i rounded[4];
                for (int i = 0; i < 4; i++) {
                    __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), left.quarter[i], weight[i]);
                    sum = _mm512_dpbusd_epi32(sum, middle.quarter[i], weight[4 + i]);
                    sum = _mm512_dpbusd_epi32(sum, right.quarter[i], weight[8 + i]);
                    __m512 factor = _mm512_loadu_ps(scale + first + 16 * i), added = _mm512_loadu_ps(bias + first + 16 * i);
                    rounded[i] = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), factor, added));
                }
                __m512i packed = _mm512_packus_epi16(_mm512_packs_epi32(rounded[0], rounded[1]),
                                                     _mm512_packs_epi32(rounded[2], rounded[3]));
                _mm512_mask_storeu_epi8(output + x * channels, present, packed);
                if (stride == 1) {
                    left = middle;
                    middle = right;
                } else if (x + 1 < out_width) {
                    left = right;
                    middle = interleaved(rows, (next + 1) * channels, present);
                }
            }
        }
    }
}
