// A CUDA device for a CPU build of torch: one that says it is there and does nothing.
// simulated_gpu.py puts tensors on it. For torch 2.13; loaded before torch first asks for CUDA.

#include <ATen/core/Generator.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

using namespace c10;

const Device THE_GPU(DeviceType::CUDA, 0);
const Stream THE_STREAM(Stream::DEFAULT, THE_GPU);

// What autograd asks of a device: all work is done when it is asked for, on the one stream.
struct Guard final : impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  DeviceIndex deviceCount() const noexcept override { return 1; }
  Device getDevice() const override { return THE_GPU; }
  Device exchangeDevice(Device) const override { return THE_GPU; }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const noexcept override { return THE_STREAM; }
  Stream getNewStream(Device, int) const override { return THE_STREAM; }
  Stream exchangeStream(Stream) const noexcept override { return THE_STREAM; }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void record(void**, const Stream&, const DeviceIndex, const EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const DeviceIndex) const noexcept override {}
};

// What the rest of torch asks of CUDA.
struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  int getNumGPUs() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  void deviceSynchronize(DeviceIndex) const override {}
  Allocator* getPinnedMemoryAllocator() const override { return GetCPUAllocator(); }
};

Guard guard;
impl::DeviceGuardImplRegistrar guards(DeviceType::CUDA, &guard);
at::RegistererCUDAHooksRegistry hooks(
    "CUDAHooks",
    at::CUDAHooksRegistry(),
    at::RegistererCUDAHooksRegistry::DefaultCreator<Hooks>);

}  // namespace
