import { SettingsPage } from "@/features/settings/SettingsPage";

export default SettingsPage;
