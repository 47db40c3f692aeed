/* SAME_CALL(ours, theirs): a call through the function pointer type `ours` passes and returns what the function `theirs` takes and gives. Types have
 * other names on both sides, and enumerations are ints here, so that what counts of a type is its kind and its size, and of a pointer what it
 * points to, where both sides say. */
#include <cstddef>
#include <type_traits>

template <class A, class = void>
struct bytes_of {
    static constexpr size_t value = 0;
};
template <class A>
struct bytes_of<A, decltype(void(sizeof(A)))> {
    static constexpr size_t value = std::is_void<A>::value || std::is_function<A>::value ? 0 : sizeof(A);
};

template <class A, class B>
constexpr bool same_value() {
    if (std::is_void<A>::value || std::is_void<B>::value)
        return std::is_void<A>::value && std::is_void<B>::value;
    if (std::is_pointer<A>::value || std::is_pointer<B>::value) {
        constexpr size_t a = bytes_of<std::remove_pointer_t<A>>::value, b = bytes_of<std::remove_pointer_t<B>>::value;
        return std::is_pointer<A>::value && std::is_pointer<B>::value && (a == 0 || b == 0 || a == b);
    }
    return std::is_floating_point<A>::value == std::is_floating_point<B>::value && bytes_of<A>::value == bytes_of<B>::value;
}

template <class Ours, class Theirs>
struct same_call : std::false_type {};
template <class R, class... A, class S, class... B>
struct same_call<R (*)(A...), S (*)(B...)> {
    template <class... X>
    struct list {};
    template <class... X, class... Y>
    static constexpr bool each(list<X...>, list<Y...>) {
        if constexpr (sizeof...(X) == sizeof...(Y))
            return (same_value<X, Y>() && ... && true);
        return false;
    }
    static constexpr bool value = same_value<R, S>() && each(list<A...>(), list<B...>());
};

#define SAME_CALL(ours, theirs) static_assert(same_call<decltype(ours), decltype(&theirs)>::value, #theirs " is declared otherwise")
