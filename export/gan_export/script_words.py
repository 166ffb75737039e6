"""The TorchScript that a generator is made of: operators, types and builtin functions. What is not here is refused.

An operator has to be pure arithmetic on tensors that it bounds itself. So there is nothing that reads or writes files
(from_file, save, load), sees memory beyond a tensor or before it was written (as_strided, set_, resize_, empty), or
calls out (fork, custom classes).
"""

from __future__ import annotations

from gan_export.reading.words import words

_ARITHMETIC = """
add add_ sub sub_ rsub mul mul_ div div_ divide multiply subtract true_divide floor_divide floordiv remainder fmod pow
neg abs sign exp exp_ expm1 log log1p log2 sqrt rsqrt reciprocal square sin cos tan asin acos atan atan2 sinh cosh erf
erfc floor ceil round trunc frac clamp clamp_ clamp_min clamp_min_ clamp_max clamp_max_ clip maximum minimum max min
amax amin sum mean var std var_mean std_mean prod norm linalg_norm linalg_vector_norm logsumexp softmax log_softmax
cumsum argmax argmin sort topk any all eq ne lt le gt ge isnan isinf isfinite logical_and logical_or logical_not
logical_xor bitwise_and bitwise_or bitwise_not __and__ __or__ __not__ __is__ __isnot__ where lerp addcmul addcdiv addmm
baddbmm bmm matmul mm mv dot outer einsum nan_to_num
"""
_LAYERS = """
linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d _convolution convolution
batch_norm instance_norm group_norm layer_norm rms_norm dropout dropout_ feature_dropout alpha_dropout embedding one_hot
_weight_norm _weight_norm_interface relu relu_ relu6 relu6_ leaky_relu leaky_relu_ elu elu_ selu selu_ celu celu_ gelu
silu silu_ mish mish_ hardtanh
hardtanh_ hardswish hardswish_ hardsigmoid hardsigmoid_ softplus hardshrink softshrink threshold threshold_ prelu
_prelu_kernel rrelu rrelu_ glu log_sigmoid tanh tanh_ sigmoid sigmoid_ cosine_similarity
avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
adaptive_max_pool2d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
upsample_bicubic2d upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
_upsample_bilinear2d_aa _upsample_bicubic2d_aa _upsample_lanczos2d_aa
grid_sampler affine_grid_generator
pixel_shuffle pixel_unshuffle adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool3d
channel_shuffle reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
replication_pad3d constant_pad_nd pad im2col col2im scaled_dot_product_attention
"""
_SHAPES = """
view reshape flatten unflatten squeeze unsqueeze permute transpose t movedim swapaxes contiguous clone detach cat concat
stack hstack vstack split split_with_sizes chunk tensor_split unbind narrow slice select index index_select gather
expand expand_as repeat repeat_interleave tile flip roll rot90 view_as reshape_as size dim numel len sym_size
broadcast_tensors copy_ fill_ zero_ alias
"""
_MAKING = """
zeros ones full zeros_like ones_like full_like arange linspace eye tensor scalar_tensor as_tensor new_zeros new_ones
new_full rand randn rand_like randn_like randint normal bernoulli
to type_as float double half int long bool cpu cuda device dtype is_floating_point
Int Float Bool IntImplicit FloatImplicit ScalarImplicit item
"""
_LISTS = """
append extend insert pop reverse list __contains__ __getitem__ __range_length __derive_index keys values items format
percentFormat warn str ord chr lower upper is_grad_enabled
"""

OPERATORS = frozenset(words(" ".join((_ARITHMETIC, _LAYERS, _SHAPES, _MAKING, _LISTS))))
"""Names of aten operators: `torch.NAME` in the code."""

PRIMITIVES = frozenset(
    words(
        """
        NumToTensor RaiseException Constant ListConstruct ListUnpack TupleConstruct TupleUnpack TupleIndex TupleSlice
        DictConstruct If Loop GetAttr CallMethod CallFunction Uninitialized Return unchecked_cast
        unchecked_unwrap_optional device dtype layout min max abs is_cuda is_cpu requires_grad rangelist Param
        isinstance type
        """
    )
)
"""Names of prim operators: `ops.prim.NAME` in the code."""

BUILTINS = frozenset(
    words(
        "torch ops __torch__ CONSTANTS int float bool str range len annotate unchecked_cast uninitialized getattr "
        "isinstance min max abs round inf nan"
    )
)

TYPES = frozenset(
    words("Tensor int float bool str NoneType Optional List Tuple Dict Final Any number Device complex Union")
)
