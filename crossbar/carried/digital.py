"""torch's functions that use the numbers of a weight, and are no product of inputs with it."""

from __future__ import annotations

DIGITAL = frozenset(
    """
    __add__ __and__ __array__ __array_wrap__ __bool__ __complex__ __contains__ __deepcopy__ __div__
    __dlpack__ __dlpack_device__ __eq__ __float__ __floordiv__ __format__ __ge__ __get__ __gt__
    __iand__ __ifloordiv__ __ilshift__ __imod__ __index__ __int__ __invert__ __ior__ __irshift__
    __ixor__ __le__ __len__ __long__ __lshift__ __lt__ __mod__ __mul__ __ne__ __nonzero__ __or__
    __radd__ __rand__ __rdiv__ __reduce_ex__ __repr__ __reversed__ __rfloordiv__ __rlshift__
    __rmod__ __rmul__ __ror__ __rpow__ __rrshift__ __rshift__ __rsub__ __rxor__ __setstate__ __sub__
    __truediv__ __xor__ _assert_async _autocast_to_full_precision _autocast_to_reduced_precision
    _clear_non_serializable_cached_data _dimI _dimV _functional_assert_async _indices _is_view
    _native_batch_norm_legit _nested_tensor_size _nested_tensor_storage_offsets
    _nested_tensor_strides _nnz _rowwise_prune _sparse_mask_projection _sym_acos _sym_asin _sym_atan
    _sym_cos _sym_cosh _sym_sin _sym_sinh _sym_sqrt _sym_tan _sym_tanh _threshold _to_dense _values
    abs absolute acos acosh adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool1d_with_indices adaptive_max_pool2d
    adaptive_max_pool2d_with_indices adaptive_max_pool3d adaptive_max_pool3d_with_indices add
    addcdiv addcmul all all_gather all_gather_coalesced all_gather_single all_reduce
    all_reduce_coalesced all_to_all all_to_all_single allclose alpha_dropout amax amin aminmax angle
    any arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere asin
    asinh atan atan2 atanh atleast_1d avg_pool1d avg_pool2d avg_pool3d backward batch_norm
    batch_norm_backward_elemt batch_norm_backward_reduce batch_norm_elemt batch_norm_gather_stats
    batch_norm_gather_stats_with_counts batch_norm_stats batch_norm_update_stats bernoulli
    binary_cross_entropy binary_cross_entropy_with_logits bincount binomial bitwise_and
    bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bool bucketize byte
    ccol_indices cdouble ceil celu cfloat chalf char cholesky cholesky_inverse
    choose_qparams_optimized clamp clamp_max clamp_min clip clone coalesce col_indices complex conj
    conj_physical const_data_ptr copysign corrcoef cos cosh cosine_embedding_loss count_nonzero cov
    cross cross_entropy crow_indices ctc_loss cummax cummin cumprod cumsum cumulative_trapezoid
    data_ptr deg2rad dense_dim dequantize det diff digamma dim dim_order dist div divide dropout
    dropout1d dropout2d dropout3d element_size elu empty_like eq equal erf erfc erfinv exp exp2
    expm1 fake_quantize_per_channel_affine fake_quantize_per_tensor_affine feature_alpha_dropout
    feature_dropout fix float_power floor floor_divide fmax fmin fmod frac fractional_max_pool2d
    fractional_max_pool2d_with_indices fractional_max_pool3d fractional_max_pool3d_with_indices
    frexp frobenius_norm full_like fused_moving_avg_obs_fake_quant gaussian_nll_loss gcd ge gelu
    geqrf get_device glu gradient greater greater_equal grid_sample grid_sampler grid_sampler_2d
    grid_sampler_3d group_norm gt gumbel_softmax hardshrink hardtanh hash_tensor heaviside
    hinge_embedding_loss histc histogram histogramdd huber_loss hypot i0 igamma igammac imag
    index_add index_fill index_put index_reduce indices instance_norm int int_repr inverse ipu irecv
    is_coalesced is_complex is_conj is_contiguous is_distributed is_floating_point is_inference
    is_neg is_nonzero is_pinned is_same_size is_set_to is_shared is_signed isclose isend isfinite
    isin isinf isnan isneginf isposinf isreal istft item kl_div kthvalue l1_loss layer_norm lcm
    ldexp le leaky_relu lerp less less_equal lgamma linalg_cholesky linalg_cholesky_ex linalg_cond
    linalg_cross linalg_det linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh linalg_inv
    linalg_inv_ex linalg_ldl_factor linalg_ldl_factor_ex linalg_lu linalg_lu_factor
    linalg_lu_factor_ex linalg_matrix_exp linalg_matrix_norm linalg_matrix_power linalg_matrix_rank
    linalg_matrix_sqrth linalg_polar
    linalg_norm linalg_pinv linalg_qr linalg_slogdet linalg_svd linalg_svdvals linalg_tensorinv
    linalg_vander linalg_vector_norm lobpcg local_response_norm log log10 log1p log2 log_sigmoid
    log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and logical_not logical_or
    logical_xor logit logsumexp long lp_pool1d lp_pool2d lp_pool3d lt lu lu_unpack
    margin_ranking_loss masked_fill masked_select matrix_exp matrix_power max max_pool1d
    max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices
    max_unpool1d max_unpool2d max_unpool3d maximum mean median min minimum miopen_batch_norm mish
    mode module_load mse_loss msort mtia mul multi_margin_loss multilabel_margin_loss
    multilabel_soft_margin_loss multinomial multiply mvlgamma nan_to_num nanmean nanmedian
    nanquantile nansum native_batch_norm native_dropout native_group_norm native_layer_norm
    native_norm ndimension ne neg negative nelement nextafter nll_loss nonzero nonzero_static norm
    norm_except_dim normalize not_equal nuclear_norm numel numpy one_hot ones_like orgqr
    pairwise_distance pca_lowrank pdist pin_memory pinverse poisson poisson_nll_loss polar polygamma
    pow prelu prod put q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale
    q_zero_point qr qscheme quantile quantize_per_channel quantize_per_tensor
    quantize_per_tensor_dynamic quantized_batch_norm quantized_max_pool1d quantized_max_pool2d
    quantized_max_pool3d rad2deg real reciprocal record_stream recv reduce reduce_scatter
    reduce_scatter_single register_hook register_post_accumulate_grad_hook relu relu6 remainder
    renorm requires_grad_ resize resize_as resolve_conj resolve_neg retain_grad rms_norm round
    row_indices rrelu rsqrt rsub scatter_add scatter_reduce searchsorted segment_reduce selu send
    sgn share_memory_ short sigmoid sign signbit silu sin sinc sinh size slice_inverse slogdet
    smooth_l1_loss soft_margin_loss softmax softmin softplus softshrink softsign sort sparse_dim
    sparse_mask sqrt square std std_mean stft storage storage_offset storage_type sub subtract sum
    sum_to_size svd svd_lowrank sym_float sym_int sym_ite sym_max sym_min sym_not sym_sum tan tanh
    tanhshrink threshold tolist topk trace trapezoid trapz tril triplet_margin_loss
    triplet_margin_with_distance_loss triu true_divide trunc unique unique_consecutive unravel_index
    untyped_storage values var var_mean view_as_complex view_as_real where xlogy xpu zeros_like
    """.split()
)
"""By name. A function of torch in none of the lists computes digitally as well, and a receipt names
it; this one is closed, so that what a new torch brings is looked at."""

FAMILIES = ("fft_", "special_")
"""Beginnings of the names of more of them, functions of single numbers and transforms."""
